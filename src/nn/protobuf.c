/*
 * protobuf.c
 *	  Reading the protocol-buffer wire format.  See protobuf.h.
 *
 * Groups (wire types 3 and 4, deprecated since proto2) do not occur in ONNX
 * and count as malformed, as do field number 0, varints of more than 64 bits
 * and lengths past the end.
 */
#include "nn/protobuf.h"

pb_reader
pb_open(pb_bytes range)
{
	static const uint8_t nothing[1];
	pb_reader	r = {nothing, nothing, false};

	if (range.len > 0)
	{
		r.p = range.p;
		r.end = range.p + range.len;
	}
	return r;
}

static bool
take_varint(const uint8_t **p, const uint8_t *end, uint64_t *value)
{
	uint64_t	v = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8_t		b;

		if (*p == end)
			return false;
		b = *(*p)++;
		if (shift == 63 && b > 1)
			return false;
		v |= (uint64_t) (b & 0x7f) << shift;
		if (!(b & 0x80))
		{
			*value = v;
			return true;
		}
	}
	return false;
}

static bool
take_fixed(pb_reader *r, int bytes, uint64_t *value)
{
	uint64_t	v = 0;

	if (r->end - r->p < bytes)
		return false;
	for (int i = 0; i < bytes; i++)
		v |= (uint64_t) r->p[i] << (8 * i);
	r->p += bytes;
	*value = v;
	return true;
}

bool
pb_next(pb_reader *r, pb_field *f)
{
	uint64_t	key;
	bool		good;

	if (r->bad || r->p == r->end)
		return false;
	f->value = 0;
	f->bytes.p = NULL;
	f->bytes.len = 0;
	good = take_varint(&r->p, r->end, &key) && key >> 3 != 0 && key >> 3 < (1u << 29);
	if (good)
	{
		f->number = (uint32_t) (key >> 3);
		f->wire = (pb_wire) (key & 7);
		switch (f->wire)
		{
			case pb_varint:
				good = take_varint(&r->p, r->end, &f->value);
				break;
			case pb_fixed64:
				good = take_fixed(r, 8, &f->value);
				break;
			case pb_fixed32:
				good = take_fixed(r, 4, &f->value);
				break;
			case pb_length:
				good = take_varint(&r->p, r->end, &f->value) &&
					f->value <= (uint64_t) (r->end - r->p);
				if (good)
				{
					f->bytes.p = r->p;
					f->bytes.len = (size_t) f->value;
					r->p += f->bytes.len;
				}
				break;
			default:
				good = false;
		}
	}
	r->bad = !good;
	return good;
}

bool
pb_take_varint(pb_bytes *range, uint64_t *value)
{
	const uint8_t *p = range->p;

	if (!take_varint(&p, range->p + range->len, value))
		return false;
	range->len -= (size_t) (p - range->p);
	range->p = p;
	return true;
}
