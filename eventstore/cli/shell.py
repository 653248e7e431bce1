"""The command completion: the scripts of the shells. What they ask is answered by `completion.py`."""

import click

_BASH = """\
_eventstore() {
    local IFS=$'\\n' line
    COMPREPLY=()
    while read -r line; do
        case $line in
            file) compopt -o default 2>/dev/null ;;
            *) COMPREPLY+=("${line%%$'\\t'*}") ;;
        esac
    done < <(COMP_TYPE= eventstore __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]] && compopt -o nospace
    __ltrim_colon_completions "${COMP_WORDS[COMP_CWORD]}" 2>/dev/null
    return 0
}
complete -F _eventstore eventstore
"""
_ZSH = """\
#compdef eventstore
_eventstore() {
    local line files=0
    local -a found
    for line in "${(@f)$(eventstore __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ $line == file ]] && files=1 && continue
        [[ -n $line ]] && found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    _describe -V eventstore found
    (( files )) && _files
}
compdef _eventstore eventstore
"""
_FISH = """\
function __eventstore_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (eventstore __complete $words[2..-1] 2>/dev/null)
        if test "$line" = file
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c eventstore -f -a '(__eventstore_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command("completion", short_help="Print the completion of commands and sessions for a shell.")
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion_command(shell: str) -> None:
    """Print the script that completes commands, options, their values and sessions in a shell.

    \b
    bash  echo 'source <(eventstore completion bash)' >> ~/.bashrc
    zsh   echo 'source <(eventstore completion zsh)' >> ~/.zshrc
    fish  eventstore completion fish > ~/.config/fish/completions/eventstore.fish

    In ~/.zshrc the line stands behind compinit.
    """
    click.echo(SCRIPTS[shell], nl=False)
