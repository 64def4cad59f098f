/*
 * bytes.c
 *	  Model bytes are little-endian on every machine: a writer that grows and
 *	  remembers a failure, and a reader that never passes the end.
 */
#include "learn/learn_int.h"

#include <string.h>

void
lrn_put(lrn_writer *w, const void *bytes, size_t n)
{
	if (w->failed)
		return;
	if (w->len + n > w->size)
	{
		size_t		size = w->size ? w->size : 4096;
		uint8_t    *grown;

		while (size < w->len + n)
			size += size / 2;
		/* While it is copied, both exist. */
		if (w->limit && size + w->size > w->limit)
		{
			w->failed = MR_LIMIT;
			return;
		}
		grown = mr_alloc(w->env, size);
		if (grown == NULL)
		{
			w->failed = MR_NOMEM;
			return;
		}
		if (w->len)
			memcpy(grown, w->data, w->len);
		mr_free(w->env, w->data);
		w->data = grown;
		w->size = size;
	}
	memcpy(w->data + w->len, bytes, n);
	w->len += n;
}

void
lrn_put_u32(lrn_writer *w, uint32_t v)
{
	uint8_t		b[4] = {(uint8_t) v, (uint8_t) (v >> 8), (uint8_t) (v >> 16), (uint8_t) (v >> 24)};

	lrn_put(w, b, sizeof(b));
}

void
lrn_put_u64(lrn_writer *w, uint64_t v)
{
	lrn_put_u32(w, (uint32_t) v);
	lrn_put_u32(w, (uint32_t) (v >> 32));
}

void
lrn_put_f32(lrn_writer *w, float v)
{
	uint32_t	bits;

	memcpy(&bits, &v, sizeof(bits));
	lrn_put_u32(w, bits);
}

void
lrn_put_f64(lrn_writer *w, double v)
{
	uint64_t	bits;

	memcpy(&bits, &v, sizeof(bits));
	lrn_put_u64(w, bits);
}

void
lrn_put_varint(lrn_writer *w, uint64_t v)
{
	uint8_t		b[10];
	int			n = 0;

	while (v >= 0x80)
	{
		b[n++] = (uint8_t) (v | 0x80);
		v >>= 7;
	}
	b[n++] = (uint8_t) v;
	lrn_put(w, b, (size_t) n);
}

uint32_t
lrn_get_u32(lrn_reader *r)
{
	uint32_t	v;

	if (r->bad || r->end - r->p < 4)
	{
		r->bad = true;
		return 0;
	}
	v = (uint32_t) r->p[0] | (uint32_t) r->p[1] << 8 | (uint32_t) r->p[2] << 16 | (uint32_t) r->p[3] << 24;
	r->p += 4;
	return v;
}

uint64_t
lrn_get_u64(lrn_reader *r)
{
	uint64_t	low = lrn_get_u32(r);

	return low | (uint64_t) lrn_get_u32(r) << 32;
}

float
lrn_get_f32(lrn_reader *r)
{
	uint32_t	bits = lrn_get_u32(r);
	float		v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

double
lrn_get_f64(lrn_reader *r)
{
	uint64_t	bits = lrn_get_u64(r);
	double		v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

uint64_t
lrn_get_varint(lrn_reader *r)
{
	uint64_t	v = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8_t		b;

		if (r->bad || r->p >= r->end)
			break;
		b = *r->p++;
		v |= (uint64_t) (b & 0x7F) << shift;
		if (b < 0x80)
			return v;
	}
	r->bad = true;
	return 0;
}

/*
 * Eight bytes a step; each step is a bijection of the state, so that one
 * changed word always changes the sum.  Not against malice: the registry
 * keeps a sha256 for that.
 */
uint64_t
lrn_checksum(uint64_t seed, const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t	h = seed ^ ((uint64_t) n * 0x9E3779B97F4A7C15u);

	for (; n >= 8; n -= 8, p += 8)
	{
		uint64_t	w = 0;

		for (int i = 7; i >= 0; i--)
			w = w << 8 | p[i];
		h = (h ^ w) * 0x9FB21C651E98DF25u;
		h ^= h >> 29;
	}
	for (; n > 0; n--, p++)
	{
		h = (h ^ *p) * 0x9FB21C651E98DF25u;
		h ^= h >> 29;
	}
	return h;
}
