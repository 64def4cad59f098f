/*
 * onnx_write.c
 *	  Writing ONNX: the wire format, tensors, ports and attributes.
 */
#include "core/onnx_write.h"

#include <string.h>

/* Wire types of the protocol-buffer encoding. */
enum
{
	VARINT = 0, LENGTH = 2, FIXED32 = 5
};

/* Bytes that the length of a nested message takes, known only at its end: a
 * number may have leading zeros, so nothing has to move. */
#define LENGTH_BYTES	5

void
mr_onnx_init(mr_onnx *w, const mr_env *env, size_t limit)
{
	memset(w, 0, sizeof(*w));
	w->env = env;
	w->limit = limit;
}

mr_code
mr_onnx_code(const mr_onnx *w, mr_status *st)
{
	if (w->code == MR_LIMIT)
		return mr_fail(st, MR_LIMIT, "the ONNX file would have more than the %zu bytes allowed", w->limit);
	if (w->code != MR_OK)
		return mr_fail(st, w->code, "out of memory while writing an ONNX file");
	return MR_OK;
}

/* Make the buffer hold cap bytes. */
static bool
grow(mr_onnx *w, size_t cap)
{
	uint8_t    *grown = mr_alloc(w->env, cap);

	if (grown == NULL)
	{
		w->code = MR_NOMEM;
		return false;
	}
	if (w->len)
		memcpy(grown, w->p, w->len);
	mr_free(w->env, w->p);
	w->p = grown;
	w->cap = cap;
	return true;
}

static bool
fits(mr_onnx *w, size_t n)
{
	if (w->code == MR_OK && (n > w->limit || w->len > w->limit - n))
		w->code = MR_LIMIT;
	return w->code == MR_OK;
}

bool
mr_onnx_reserve(mr_onnx *w, size_t n)
{
	return fits(w, n) && (n <= w->cap - w->len || grow(w, w->len + n + 4096));
}

/* The same for little by little. */
static bool
room(mr_onnx *w, size_t n)
{
	return fits(w, n) && (n <= w->cap - w->len || grow(w, (w->len + n) * 2 + 4096));
}

void
mr_onnx_append(mr_onnx *w, const void *data, size_t len)
{
	if (!room(w, len))
		return;
	if (len)
		memcpy(w->p + w->len, data, len);
	w->len += len;
}

size_t
mr_onnx_gap(mr_onnx *w, size_t len)
{
	size_t		at = w->len;

	if (!room(w, len))
		return at;
	memset(w->p + at, 0, len);
	w->len += len;
	return at;
}

int
mr_onnx_varint(uint64_t v, uint8_t *out)
{
	int			n = 1;

	for (; v > 0x7f; v >>= 7, n++)
		if (out)
			*out++ = (uint8_t) (v | 0x80);
	if (out)
		*out = (uint8_t) v;
	return n;
}

static void
put_varint(mr_onnx *w, uint64_t v)
{
	uint8_t		b[10];

	mr_onnx_append(w, b, (size_t) mr_onnx_varint(v, b));
}

static void
put_key(mr_onnx *w, uint32_t field, uint32_t wire)
{
	put_varint(w, (uint64_t) field << 3 | wire);
}

void
mr_onnx_int(mr_onnx *w, uint32_t field, int64_t v)
{
	put_key(w, field, VARINT);
	put_varint(w, (uint64_t) v);
}

void
mr_onnx_float(mr_onnx *w, uint32_t field, float v)
{
	put_key(w, field, FIXED32);
	mr_onnx_append(w, &v, sizeof(v));	/* little-endian, as the format is */
}

void
mr_onnx_head(mr_onnx *w, uint32_t field, size_t len)
{
	put_key(w, field, LENGTH);
	put_varint(w, len);
}

void
mr_onnx_bytes(mr_onnx *w, uint32_t field, const void *data, size_t len)
{
	mr_onnx_head(w, field, len);
	mr_onnx_append(w, data, len);
}

void
mr_onnx_text(mr_onnx *w, uint32_t field, const char *s)
{
	mr_onnx_bytes(w, field, s, strlen(s));
}

size_t
mr_onnx_begin(mr_onnx *w, uint32_t field)
{
	put_key(w, field, LENGTH);
	(void) mr_onnx_gap(w, LENGTH_BYTES);
	return w->len;
}

void
mr_onnx_end(mr_onnx *w, size_t begun)
{
	size_t		len = w->len - begun;

	if (w->code != MR_OK)
		return;
	for (int i = 1; i <= LENGTH_BYTES; i++, len >>= 7)
		w->p[begun - LENGTH_BYTES - 1 + (size_t) i] = (uint8_t) ((len & 0x7f) | (i < LENGTH_BYTES ? 0x80 : 0));
}

/* ---- messages of onnx.proto ---- */

size_t
mr_onnx_tensor_begin(mr_onnx *w, uint32_t field, const char *name, int type, int rank, const int64_t *dims, size_t bytes)
{
	size_t		at = mr_onnx_begin(w, field);

	for (int i = 0; i < rank; i++)
		mr_onnx_int(w, 1, dims[i]);
	mr_onnx_int(w, 2, type);
	mr_onnx_text(w, 8, name);
	mr_onnx_head(w, 9, bytes);
	return at;
}

void
mr_onnx_tensor(mr_onnx *w, uint32_t field, const char *name, int type, int rank, const int64_t *dims, const void *data, size_t bytes)
{
	size_t		at = mr_onnx_tensor_begin(w, field, name, type, rank, dims, bytes);

	mr_onnx_append(w, data, bytes);
	mr_onnx_end(w, at);
}

void
mr_onnx_port(mr_onnx *w, uint32_t field, const char *name, int type, int rank, const int64_t *dims, bool batch)
{
	size_t		port = mr_onnx_begin(w, field);
	size_t		kind,
				tensor,
				shape;

	mr_onnx_text(w, 1, name);
	kind = mr_onnx_begin(w, 2);
	tensor = mr_onnx_begin(w, 1);
	mr_onnx_int(w, 1, type);
	shape = mr_onnx_begin(w, 2);
	for (int i = 0; i < rank; i++)
	{
		size_t		dim = mr_onnx_begin(w, 1);

		if (i == 0 && batch)
			mr_onnx_text(w, 2, "N");
		else
			mr_onnx_int(w, 1, dims[i]);
		mr_onnx_end(w, dim);
	}
	mr_onnx_end(w, shape);
	mr_onnx_end(w, tensor);
	mr_onnx_end(w, kind);
	mr_onnx_end(w, port);
}

size_t
mr_onnx_attr_begin(mr_onnx *w, const char *name, int type)
{
	size_t		at = mr_onnx_begin(w, 5);

	mr_onnx_text(w, 1, name);
	mr_onnx_int(w, 20, type);
	return at;
}

void
mr_onnx_attr_int(mr_onnx *w, const char *name, int64_t v)
{
	size_t		at = mr_onnx_attr_begin(w, name, MR_ONNX_A_INT);

	mr_onnx_int(w, 3, v);
	mr_onnx_end(w, at);
}

void
mr_onnx_attr_text(mr_onnx *w, const char *name, const char *s)
{
	size_t		at = mr_onnx_attr_begin(w, name, MR_ONNX_A_STRING);

	mr_onnx_text(w, 4, s);
	mr_onnx_end(w, at);
}

void
mr_onnx_attr_ints(mr_onnx *w, const char *name, int n, const int64_t *v)
{
	size_t		at = mr_onnx_attr_begin(w, name, MR_ONNX_A_INTS);

	for (int i = 0; i < n; i++)
		mr_onnx_int(w, 8, v[i]);
	mr_onnx_end(w, at);
}

void
mr_onnx_opset(mr_onnx *w, const char *domain, int version)
{
	size_t		at = mr_onnx_begin(w, 8);

	mr_onnx_text(w, 1, domain);
	mr_onnx_int(w, 2, version);
	mr_onnx_end(w, at);
}
