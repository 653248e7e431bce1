/* The chain check over many lines: an optional accelerator of hash_chain.py, which says what a line must hold.

   It only says how many lines from the first one fit, each on the one before. What does not fit is for Python to judge.
   SHA-256 is that of the libcrypto which Python's own hashlib uses: its Init, Update and Final, since one call of EVP_Digest or
   SHA256 looks the algorithm up each time, which takes longer than hashing a line. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <string.h>

#ifndef LIBCRYPTO
#define LIBCRYPTO "libcrypto.so.3" /* accelerator.py names the one of this machine */
#endif

enum { DIGEST = 32, TAIL = 75 }; /* bytes of a digest, and of `,"hash":"` + 64 hex digits + `"}` */

typedef struct { unsigned char bytes[256]; } context; /* SHA256_CTX has 112 */
static int (*sha_init)(context *);
static int (*sha_update)(context *, const void *, size_t);
static int (*sha_final)(unsigned char *, context *);

static void leaf_of(const unsigned char *body, size_t size, unsigned char *leaf) {
    context here;
    sha_init(&here);
    sha_update(&here, "\0", 1);
    sha_update(&here, body, size);
    sha_final(leaf, &here);
}

static void next_of(const unsigned char *previous, const unsigned char *leaf, unsigned char *digest) {
    context here;
    sha_init(&here);
    sha_update(&here, "\1", 1);
    sha_update(&here, previous, DIGEST);
    sha_update(&here, leaf, DIGEST);
    sha_final(digest, &here);
}

/* Whether a line without its LF ends as a record does, with the hash that follows on `digest`, which then moves on. */
static int fits(const unsigned char *line, size_t size, unsigned char *digest) {
    static const char hex[] = "0123456789abcdef";
    unsigned char leaf[DIGEST], after[DIGEST], wanted[TAIL];
    if (size < TAIL)
        return 0;
    leaf_of(line, size - TAIL, leaf);
    next_of(digest, leaf, after);
    memcpy(wanted, ",\"hash\":\"", 9);
    for (int i = 0; i < DIGEST; i++) {
        wanted[9 + 2 * i] = (unsigned char)hex[after[i] >> 4];
        wanted[10 + 2 * i] = (unsigned char)hex[after[i] & 15];
    }
    memcpy(wanted + 73, "\"}", 2);
    if (memcmp(line + size - TAIL, wanted, TAIL) != 0)
        return 0;
    memcpy(digest, after, DIGEST);
    return 1;
}

PyDoc_STRVAR(count_doc, "count_fitting(lines, digest)\n--\n\n"
    "Return how many lines, each but the last with its LF, fit on a digest and on each other, from the first on.");

static PyObject *count_fitting(PyObject *module, PyObject *args) {
    const char *data, *start;
    Py_ssize_t size, digest_size, count = 0;
    unsigned char digest[DIGEST];
    if (!PyArg_ParseTuple(args, "y#y#", &data, &size, &start, &digest_size))
        return NULL;
    if (digest_size != DIGEST) {
        PyErr_SetString(PyExc_ValueError, "a digest has 32 bytes");
        return NULL;
    }
    memcpy(digest, start, DIGEST);
    Py_BEGIN_ALLOW_THREADS
    const char *end = data + size;
    while (data <= end) {
        const char *feed = memchr(data, '\n', (size_t)(end - data));
        const char *last = feed ? feed : end;
        if (!fits((const unsigned char *)data, (size_t)(last - data), digest))
            break;
        count++;
        if (!feed)
            break;
        data = feed + 1;
    }
    Py_END_ALLOW_THREADS
    return PyLong_FromSsize_t(count);
}

/* Raised when what the functions take or return changes: accelerator.py asks for it. */
enum { FORM = 1 };

static PyMethodDef methods[] = {{"count_fitting", count_fitting, METH_VARARGS, count_doc}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_chain", "The chain check over many lines.", 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__chain(void) {
    void *library = dlopen(LIBCRYPTO, RTLD_NOW | RTLD_LOCAL);
    if (library) {
        *(void **)&sha_init = dlsym(library, "SHA256_Init");
        *(void **)&sha_update = dlsym(library, "SHA256_Update");
        *(void **)&sha_final = dlsym(library, "SHA256_Final");
    }
    if (!sha_init || !sha_update || !sha_final) {
        PyErr_SetString(PyExc_ImportError, "there is no SHA-256 in " LIBCRYPTO);
        return NULL;
    }
    PyObject *found = PyModule_Create(&module);
    if (found && PyModule_AddIntConstant(found, "FORM", FORM) < 0)
        Py_CLEAR(found);
    return found;
}
