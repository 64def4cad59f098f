/*
 * onnx_tensor.c
 *	  TensorProto: constants of a model, from raw bytes or typed fields.
 *
 * The number of elements must match the shape exactly before anything is
 * allocated; half precision and float64 become float32.
 */
#include <math.h>
#include <string.h>

#include "nn/onnx.h"
#include "nn/ops.h"

int32_t
nn_onnx_storage(int32_t declared)
{
	switch (declared)
	{
		case nn_float16:
		case nn_bfloat16:
		case nn_float64:
			return nn_float32;
	}
	return declared;
}

bool
nn_onnx_utf8(pb_bytes s)
{
	for (size_t i = 0; i < s.len;)
	{
		uint8_t		b = s.p[i];
		int			more = b < 0x80 ? 0 : b >= 0xc2 && b < 0xe0 ? 1 : b >= 0xe0 && b < 0xf0 ? 2 :
			b >= 0xf0 && b < 0xf5 ? 3 : -1;
		uint32_t	c;

		if (more < 0 || b < 32 || b == 127 || s.len - i <= (size_t) more)
			return false;
		c = more ? b & (0x3f >> more) : b;
		for (int k = 1; k <= more; k++)
		{
			if ((s.p[i + k] & 0xc0) != 0x80)
				return false;
			c = c << 6 | (s.p[i + k] & 0x3f);
		}
		if ((more == 2 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
			(more == 3 && (c < 0x10000 || c > 0x10ffff)))
			return false;
		i += (size_t) more + 1;
	}
	return true;
}

static float
half_to_float(uint16_t h)
{
	uint32_t	sign = (uint32_t) (h & 0x8000) << 16;
	uint32_t	e = h >> 10 & 31;
	uint32_t	m = h & 1023;
	uint32_t	bits;
	float		f;

	if (e == 31)
		bits = sign | 0x7f800000 | m << 13;
	else if (e)
		bits = sign | (e + 112) << 23 | m << 13;
	else
	{
		f = ldexpf((float) m, -24);
		return sign ? -f : f;
	}
	memcpy(&f, &bits, 4);
	return f;
}

/* One element given as the integer bits of its declared type. */
static void
store(int declared, void *data, int64_t i, uint64_t bits)
{
	uint32_t	b32 = (uint32_t) bits;
	double		d;

	switch (declared)
	{
		case nn_float16:
			((float *) data)[i] = half_to_float((uint16_t) bits);
			break;
		case nn_bfloat16:
			b32 <<= 16;
			memcpy((float *) data + i, &b32, 4);
			break;
		case nn_float64:
			memcpy(&d, &bits, 8);
			((float *) data)[i] = (float) d;
			break;
		case nn_bool:
			((uint8_t *) data)[i] = bits != 0;
			break;
		default:
			switch (nn_dtype_size(declared))
			{
				case 1:
					((uint8_t *) data)[i] = (uint8_t) bits;
					break;
				case 2:
					((uint16_t *) data)[i] = (uint16_t) bits;
					break;
				case 4:
					((uint32_t *) data)[i] = b32;
					break;
				case 8:
					((uint64_t *) data)[i] = bits;
					break;
			}
	}
}

/* Which typed field (float_data 4, int32_data 5, int64_data 7, double_data 10,
 * uint64_data 11) holds a type when raw_data (9) does not. */
static uint32_t
typed_field(int declared)
{
	switch (declared)
	{
		case nn_float32:
			return 4;
		case nn_int64:
			return 7;
		case nn_float64:
			return 10;
		case nn_uint32:
		case nn_uint64:
			return 11;
	}
	return 5;
}

static mr_code
from_raw(nn_graph *g, int declared, pb_bytes raw, nn_tensor *t)
{
	size_t		size = nn_dtype_size(declared);

	if ((uint64_t) t->elements * size != raw.len)
		return nn_onnx_malformed(g, "tensor: its bytes do not match its shape");
	if (declared == t->dtype && declared != nn_bool)
	{
		if (raw.len)
			memcpy(t->data, raw.p, raw.len);	/* little-endian, as the format is */
		return MR_OK;
	}
	for (int64_t i = 0; i < t->elements; i++)
	{
		uint64_t	bits = 0;

		memcpy(&bits, raw.p + (size_t) i * size, size);
		store(declared, t->data, i, bits);
	}
	return MR_OK;
}

/* Elements of a typed field, packed or not; counted when t is NULL. */
static bool
from_typed(pb_bytes message, int declared, nn_tensor *t, int64_t *count)
{
	uint32_t	number = typed_field(declared);
	size_t		fixed = number == 4 ? 4 : number == 10 ? 8 : 0;
	pb_reader	r = pb_open(message);
	pb_field	f;
	int64_t		n = 0;

	while (pb_next(&r, &f))
	{
		if (f.number != number)
			continue;
		if (f.wire == pb_length && fixed)
		{
			if (f.bytes.len % fixed)
				return false;
			for (size_t k = 0; k < f.bytes.len / fixed; k++, n++)
			{
				uint64_t	bits = 0;

				memcpy(&bits, f.bytes.p + k * fixed, fixed);
				if (t)
					store(declared, t->data, n, bits);
			}
		}
		else if (f.wire == pb_length)
		{
			pb_bytes	packed = f.bytes;
			uint64_t	v;

			while (packed.len)
			{
				if (!pb_take_varint(&packed, &v))
					return false;
				if (t)
					store(declared, t->data, n, v);
				n++;
			}
		}
		else if ((f.wire == pb_varint && !fixed) || (f.wire == pb_fixed32 && fixed == 4) ||
				 (f.wire == pb_fixed64 && fixed == 8))
		{
			if (t)
				store(declared, t->data, n, f.value);
			n++;
		}
		else
			return false;
	}
	*count = n;
	return !r.bad;
}

/*
 * Names of classes: their positions, as int64.  Exporters pick a label from such
 * a table by its index; so the index passes through.  One table a model: two
 * would give the same number to different names.
 */
static mr_code
read_names(nn_graph *g, pb_bytes message, nn_tensor *t)
{
	pb_reader	r = pb_open(message);
	pb_field	f;
	pb_bytes   *texts;
	int64_t		n = 0;

	if (g->texts)
		return mr_fail(g->st, MR_UNSUPPORTED, "the ONNX model has two tables of strings; one, of class labels, is supported");
	while (pb_next(&r, &f))
		n += f.number == 6;
	if (r.bad || n != t->elements)
		return nn_onnx_malformed(g, "tensor: its data do not match its shape");
	t->dtype = nn_int64;
	t->data = nn_heap_alloc(g->heap, (size_t) n + (n == 0), sizeof(int64_t));
	texts = nn_heap_alloc(g->heap, (size_t) n + (n == 0), sizeof(pb_bytes));
	if (t->data == NULL || texts == NULL)
		return g->st->code;
	r = pb_open(message);
	for (int64_t i = 0; i < n && pb_next(&r, &f);)
		if (f.number == 6)
		{
			if (f.wire != pb_length)
				return nn_onnx_malformed(g, "tensor of strings");
			texts[i] = f.bytes;
			((int64_t *) t->data)[i] = i;
			i++;
		}
	g->texts = texts;
	g->n_texts = n;
	return MR_OK;
}

static mr_code
read_tensor(nn_graph *g, pb_bytes message, nn_tensor *t, int32_t *declared, pb_bytes *name, const char *what, bool names)
{
	pb_reader	r = pb_open(message);
	pb_field	f;
	pb_bytes	raw = {NULL, 0};
	bool		has_raw = false;
	size_t		size;
	int64_t		count;

	memset(t, 0, sizeof(*t));
	*declared = 0;
	name->len = 0;
	while (pb_next(&r, &f))
	{
		pb_bytes	packed = f.bytes;

		switch (f.number)
		{
			case 1:
				if (f.wire == pb_fixed32 || f.wire == pb_fixed64)
					return nn_onnx_malformed(g, "tensor shape");
				do
				{
					if (f.wire == pb_length)
					{
						if (packed.len == 0)
							break;
						if (!pb_take_varint(&packed, &f.value))
							return nn_onnx_malformed(g, "tensor shape");
					}
					if (t->shape.rank == NN_MAX_RANK)
						return mr_fail(g->st, MR_UNSUPPORTED, "a tensor has more than %d dimensions", NN_MAX_RANK);
					t->shape.dims[t->shape.rank++] = (int64_t) f.value;
				} while (packed.len);
				break;
			case 2:
				if (f.wire != pb_varint || f.value > 64)
					return nn_onnx_malformed(g, "tensor type");
				*declared = (int32_t) f.value;
				break;
			case 3:
				return mr_fail(g->st, MR_UNSUPPORTED, "ONNX tensors in segments are not supported");
			case 8:
				if (f.wire != pb_length || f.bytes.len > NN_MAX_NAME || (f.bytes.len && memchr(f.bytes.p, 0, f.bytes.len)))
					return nn_onnx_malformed(g, "tensor name");
				*name = f.bytes;
				break;
			case 9:
				if (f.wire != pb_length)
					return nn_onnx_malformed(g, "tensor");
				raw = f.bytes;
				has_raw = true;
				break;
			case 13:
			case 14:
				if (f.number == 14 && f.wire == pb_varint && f.value == 0)
					break;
				mr_fail(g->st, MR_UNSUPPORTED, "ONNX %s with external data is not supported", what);
				mr_hint(g->st, "Save the model as one file, for example with onnx.save_model(..., save_as_external_data=False).");
				return MR_UNSUPPORTED;
		}
	}
	if (r.bad)
		return nn_onnx_malformed(g, "tensor");
	size = nn_dtype_size(*declared);
	if (size == 0 && !(names && *declared == nn_string))
		return mr_fail(g->st, MR_UNSUPPORTED, "ONNX %s has type %s, which is not supported", what,
					   nn_dtype_name((nn_dtype) *declared));
	if (!nn_shape_elements(&t->shape, &t->elements))
		return mr_fail(g->st, MR_INVALID, "ONNX %s has an impossible shape", what);
	if (*declared == nn_string)
		return read_names(g, message, t);
	t->dtype = nn_onnx_storage(*declared);
	if (has_raw)
		count = (int64_t) (raw.len / size);
	else if (!from_typed(message, *declared, NULL, &count))
		return nn_onnx_malformed(g, "tensor");
	if (count != t->elements)
		return nn_onnx_malformed(g, "tensor: its data do not match its shape");
	t->data = nn_heap_alloc(g->heap, (size_t) t->elements + (t->elements == 0), nn_dtype_size(t->dtype));
	if (t->data == NULL)
		return g->st->code;
	if (has_raw)
		return from_raw(g, *declared, raw, t);
	from_typed(message, *declared, t, &count);
	return MR_OK;
}

mr_code
nn_read_tensor(nn_graph *g, pb_bytes message, nn_tensor *t, int32_t *declared, pb_bytes *name, const char *what)
{
	return read_tensor(g, message, t, declared, name, what, false);
}

mr_code
nn_read_initializer(nn_graph *g, pb_bytes message)
{
	nn_tensor	t;
	pb_bytes	name;
	int32_t		declared;
	int			value;
	nn_value   *v;
	char		buf[64];

	NN_TRY(read_tensor(g, message, &t, &declared, &name, "initializer", true));
	if (name.len == 0)
		return nn_onnx_malformed(g, "initializer: no name");
	value = nn_find_value(g, name);
	if (value >= 0)
		return mr_fail(g->st, MR_INVALID, "ONNX initializer \"%s\" is defined twice",
					   nn_printable(g->values[value].name, buf));
	value = nn_add_value(g, name);
	if (value < 0)
		return g->st->code;
	v = &g->values[value];
	v->declared = declared;
	v->dtype = t.dtype;
	v->shape = t.shape;
	v->elements = t.elements;
	v->data = t.data;
	v->initializer = true;
	if (v->dtype == nn_float32)
		g->n_parameters += v->elements;
	return MR_OK;
}
