/*
 * onnx_write.c
 *	  Writing ONNX: the wire format, tensors, ports and attributes.
 */
#include "nn/onnx_write.h"

#include <string.h>

void
nn_write_init(nn_writer *w, const mr_env *env, size_t limit)
{
	memset(w, 0, sizeof(*w));
	w->env = env;
	w->limit = limit;
}

mr_code
nn_write_code(const nn_writer *w, mr_status *st)
{
	if (w->code == MR_LIMIT)
		return mr_fail(st, MR_LIMIT, "the ONNX file would have more than the %zu bytes allowed", w->limit);
	if (w->code != MR_OK)
		return mr_fail(st, w->code, "out of memory while writing an ONNX file");
	return MR_OK;
}

/* Room for n more bytes. */
static bool
reserve(nn_writer *w, size_t n)
{
	uint8_t    *grown;
	size_t		cap;

	if (w->code != MR_OK)
		return false;
	if (n <= w->cap - w->len)
		return true;
	if (n > w->limit || w->len > w->limit - n)
	{
		w->code = MR_LIMIT;
		return false;
	}
	cap = (w->len + n) * 2 + 4096;
	grown = mr_alloc(w->env, cap);
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

static void
put(nn_writer *w, const void *data, size_t n)
{
	if (!reserve(w, n))
		return;
	if (n)
		memcpy(w->p + w->len, data, n);
	w->len += n;
}

static int
varint(uint64_t v, uint8_t out[10])
{
	int			n = 0;

	for (; v > 0x7f; v >>= 7)
		out[n++] = (uint8_t) (v | 0x80);
	out[n++] = (uint8_t) v;
	return n;
}

static void
put_varint(nn_writer *w, uint64_t v)
{
	uint8_t		b[10];

	put(w, b, (size_t) varint(v, b));
}

static void
put_key(nn_writer *w, uint32_t field, pb_wire wire)
{
	put_varint(w, (uint64_t) field << 3 | (uint64_t) wire);
}

void
nn_write_int(nn_writer *w, uint32_t field, int64_t v)
{
	put_key(w, field, pb_varint);
	put_varint(w, (uint64_t) v);
}

void
nn_write_float(nn_writer *w, uint32_t field, float v)
{
	put_key(w, field, pb_fixed32);
	put(w, &v, 4);				/* little-endian, as the format is */
}

void
nn_write_bytes(nn_writer *w, uint32_t field, const void *data, size_t len)
{
	put_key(w, field, pb_length);
	put_varint(w, len);
	put(w, data, len);
}

void
nn_write_text(nn_writer *w, uint32_t field, const char *s)
{
	nn_write_bytes(w, field, s, strlen(s));
}

size_t
nn_write_begin(nn_writer *w, uint32_t field)
{
	put_key(w, field, pb_length);
	return w->len;
}

/* Only now is the length known: the message moves up to make room for it. */
void
nn_write_end(nn_writer *w, size_t begun)
{
	uint8_t		b[10];
	size_t		len = w->len - begun;
	size_t		n = (size_t) varint(len, b);

	if (!reserve(w, n))
		return;
	memmove(w->p + begun + n, w->p + begun, len);
	memcpy(w->p + begun, b, n);
	w->len += n;
}

/* ---- messages of onnx.proto ---- */

void
nn_write_tensor(nn_writer *w, uint32_t field, const char *name, int dtype, const nn_shape *shape, const void *data)
{
	size_t		at = nn_write_begin(w, field);
	int64_t		elements = 0;

	nn_shape_elements(shape, &elements);
	for (int i = 0; i < shape->rank; i++)
		nn_write_int(w, 1, shape->dims[i]);
	nn_write_int(w, 2, dtype);
	nn_write_text(w, 8, name);
	nn_write_bytes(w, 9, data, (size_t) elements * nn_dtype_size(dtype));
	nn_write_end(w, at);
}

void
nn_write_port(nn_writer *w, uint32_t field, const char *name, int dtype, const nn_shape *shape, bool batch)
{
	size_t		port = nn_write_begin(w, field);
	size_t		type,
				tensor,
				dims;

	nn_write_text(w, 1, name);
	type = nn_write_begin(w, 2);
	tensor = nn_write_begin(w, 1);
	nn_write_int(w, 1, dtype);
	dims = nn_write_begin(w, 2);
	for (int i = 0; i < shape->rank; i++)
	{
		size_t		dim = nn_write_begin(w, 1);

		if (i == 0 && batch)
			nn_write_text(w, 2, "N");
		else
			nn_write_int(w, 1, shape->dims[i]);
		nn_write_end(w, dim);
	}
	nn_write_end(w, dims);
	nn_write_end(w, tensor);
	nn_write_end(w, type);
	nn_write_end(w, port);
}

static size_t
begin_attr(nn_writer *w, const char *name, nn_attr_type type)
{
	size_t		at = nn_write_begin(w, 5);

	nn_write_text(w, 1, name);
	nn_write_int(w, 20, type);
	return at;
}

void
nn_write_attr_int(nn_writer *w, const char *name, int64_t v)
{
	size_t		at = begin_attr(w, name, nn_attr_int);

	nn_write_int(w, 3, v);
	nn_write_end(w, at);
}

void
nn_write_attr_float(nn_writer *w, const char *name, float v)
{
	size_t		at = begin_attr(w, name, nn_attr_float);

	nn_write_float(w, 2, v);
	nn_write_end(w, at);
}

void
nn_write_attr_ints(nn_writer *w, const char *name, int n, const int64_t *v)
{
	size_t		at = begin_attr(w, name, nn_attr_ints);

	for (int i = 0; i < n; i++)
		nn_write_int(w, 8, v[i]);
	nn_write_end(w, at);
}

/* An attribute as it was read. */
void
nn_write_attr(nn_writer *w, const nn_attr *a)
{
	size_t		at = begin_attr(w, a->name, a->type);

	switch (a->type)
	{
		case nn_attr_float:
			nn_write_float(w, 2, a->f);
			break;
		case nn_attr_int:
			nn_write_int(w, 3, a->i);
			break;
		case nn_attr_string:
			nn_write_bytes(w, 4, a->s.p, a->s.len);
			break;
		case nn_attr_tensor:
			nn_write_bytes(w, 5, a->s.p, a->s.len);
			break;
		case nn_attr_floats:
			for (int i = 0; i < a->n; i++)
				nn_write_float(w, 7, a->floats[i]);
			break;
		case nn_attr_ints:
			for (int i = 0; i < a->n; i++)
				nn_write_int(w, 8, a->ints[i]);
			break;
		default:
			break;
	}
	nn_write_end(w, at);
}
