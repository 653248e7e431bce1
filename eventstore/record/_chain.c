/* The chain of hashes over many lines, and the sealing of one: an optional accelerator of hash_chain.py and codec.py, which say what a
   line must hold.

   Of lines that were read it only says how many from the first one fit, each on the one before. What does not fit is for Python to judge.
   SHA-256 is that of the libcrypto which Python's own hashlib uses: its Init, Update and Final, since one call of EVP_Digest or
   SHA256 looks the algorithm up each time, which takes longer than hashing a line. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#ifndef LIBCRYPTO
#define LIBCRYPTO "libcrypto.so.3" /* accelerator.py names the one of this machine */
#endif

enum { DIGEST = 32, TAIL = 75 }; /* bytes of a digest, and of `,"hash":"` + 64 hex digits + `"}` */
enum { LONG = 4096 };             /* bytes from which hashing takes longer than letting other threads run */

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

/* The digest after a body that follows on `previous`, and the end of its line. */
static void end_of(const unsigned char *body, size_t size, const unsigned char *previous, unsigned char *digest, unsigned char *tail) {
    static const char hex[] = "0123456789abcdef";
    unsigned char leaf[DIGEST];
    leaf_of(body, size, leaf);
    next_of(previous, leaf, digest);
    memcpy(tail, ",\"hash\":\"", 9);
    for (int i = 0; i < DIGEST; i++) {
        tail[9 + 2 * i] = (unsigned char)hex[digest[i] >> 4];
        tail[10 + 2 * i] = (unsigned char)hex[digest[i] & 15];
    }
    memcpy(tail + 73, "\"}", 2);
}

/* Whether a line without its LF ends as a record does, with the hash that follows on `digest`, which then moves on. */
static int fits(const unsigned char *line, size_t size, unsigned char *digest) {
    unsigned char after[DIGEST], wanted[TAIL];
    if (size < TAIL)
        return 0;
    end_of(line, size - TAIL, digest, after, wanted);
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

PyDoc_STRVAR(seal_doc, "seal(head, seq, at, optional, batch, tail, previous)\n--\n\n"
    "Return the line of a prepared event at its position, with its LF, and the chain's digest after it.");

static PyObject *seal(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    enum { HEAD, SEQ, AT, OPTIONAL, BATCH, REST, PREVIOUS, COUNT };
    static const int texts[] = {HEAD, AT, OPTIONAL, REST, PREVIOUS};
    if (given != COUNT) {
        PyErr_SetString(PyExc_TypeError, "seal() takes 7 arguments");
        return NULL;
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!PyBytes_CheckExact(args[texts[i]])) {
            PyErr_SetString(PyExc_TypeError, "seal() takes bytes");
            return NULL;
        }
    if (PyBytes_GET_SIZE(args[PREVIOUS]) != DIGEST) {
        PyErr_SetString(PyExc_ValueError, "a digest has 32 bytes");
        return NULL;
    }
    char number[24], batch[64] = "";
    long long seq = PyLong_AsLongLong(args[SEQ]);
    if (seq == -1 && PyErr_Occurred())
        return NULL;
    size_t number_size = (size_t)snprintf(number, sizeof number, "%lld", seq), batch_size = 0;
    if (args[BATCH] != Py_None) {
        long long place, count;
        if (!PyArg_ParseTuple(args[BATCH], "LL", &place, &count))
            return NULL;
        batch_size = (size_t)snprintf(batch, sizeof batch, ",\"batch\":[%lld,%lld]", place, count);
    }
    const struct { const char *text; size_t size; } pieces[] = {
        {PyBytes_AS_STRING(args[HEAD]), (size_t)PyBytes_GET_SIZE(args[HEAD])},
        {number, number_size},
        {",\"at\":\"", 7},
        {PyBytes_AS_STRING(args[AT]), (size_t)PyBytes_GET_SIZE(args[AT])},
        {"\"", 1},
        {PyBytes_AS_STRING(args[OPTIONAL]), (size_t)PyBytes_GET_SIZE(args[OPTIONAL])},
        {batch, batch_size},
        {PyBytes_AS_STRING(args[REST]), (size_t)PyBytes_GET_SIZE(args[REST])},
    };
    size_t size = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        size += pieces[i].size;
    PyObject *line = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(size + TAIL + 1));
    PyObject *digest = PyBytes_FromStringAndSize(NULL, DIGEST);
    PyObject *both = line && digest ? PyTuple_New(2) : NULL;
    if (!both) {
        Py_XDECREF(line);
        Py_XDECREF(digest);
        return NULL;
    }
    unsigned char *start = (unsigned char *)PyBytes_AS_STRING(line), *end = start;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        memcpy(end, pieces[i].text, pieces[i].size);
        end += pieces[i].size;
    }
    const unsigned char *previous = (const unsigned char *)PyBytes_AS_STRING(args[PREVIOUS]);
    unsigned char *after = (unsigned char *)PyBytes_AS_STRING(digest);
    if (size > LONG) { /* nobody else has the line yet, and the caller keeps the arguments */
        Py_BEGIN_ALLOW_THREADS
        end_of(start, size, previous, after, end);
        Py_END_ALLOW_THREADS
    } else {
        end_of(start, size, previous, after, end);
    }
    end[TAIL] = '\n';
    PyTuple_SET_ITEM(both, 0, line);
    PyTuple_SET_ITEM(both, 1, digest);
    return both;
}

/* Raised when what the functions take or return changes: accelerator.py asks for it. */
enum { FORM = 2 };

static PyMethodDef methods[] = {
    {"count_fitting", count_fitting, METH_VARARGS, count_doc},
    {"seal", (PyCFunction)(void (*)(void))seal, METH_FASTCALL, seal_doc},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_chain", "The chain over many lines, and the sealing of one.", 0, methods, NULL, NULL, NULL, NULL};

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
