/*
 * content.c
 *	  Constants and packed weights of a compiled file: equal ones once.
 *
 * Each plan packs its weights anew; most packs come out as those of the plan
 * before and are dropped here.  Pieces are this file's own allocations until
 * nn_content_copy() has put them into the file, so that the memory taken at any
 * time is little more than the file's.
 */
#include <string.h>

#include "nn/plan.h"

typedef struct nn_piece
{
	uint8_t    *bytes;
	uint64_t	len;
	uint64_t	at;
	uint64_t	hash;
} nn_piece;

static uint64_t
align64(uint64_t n)
{
	return (n + 63) & ~UINT64_C(63);
}

/* Of 64-byte multiples: the padding is zero. */
static uint64_t
hash_of(const uint8_t *p, uint64_t len)
{
	uint64_t	h[2] = {len, ~len};

	for (uint64_t i = 0; i < len; i += 16)
		for (int k = 0; k < 2; k++)
		{
			uint64_t	w;

			memcpy(&w, p + i + 8 * k, 8);
			h[k] = (h[k] ^ w) * UINT64_C(0x9e3779b97f4a7c15);
			h[k] ^= h[k] >> 29;
		}
	return h[0] ^ (h[1] << 7 | h[1] >> 57);
}

void *
nn_content_new(nn_content *c, uint64_t len)
{
	void	   *p;

	if (len > SIZE_MAX / 4)
		return NULL;
	len = len ? align64(len) : 64;
	p = mr_alloc(c->env, len);
	if (p)
		memset(p, 0, len);
	return p;
}

static bool
grow(nn_content *c)
{
	int			cap = c->cap ? c->cap * 4 : 256;
	nn_piece   *pieces = mr_alloc(c->env, (size_t) cap * sizeof(nn_piece));
	int		   *slots = mr_alloc(c->env, (size_t) cap * 2 * sizeof(int));

	if (!pieces || !slots)
	{
		mr_free(c->env, pieces);
		mr_free(c->env, slots);
		return false;
	}
	if (c->n)
		memcpy(pieces, c->pieces, (size_t) c->n * sizeof(nn_piece));
	memset(slots, 0, (size_t) cap * 2 * sizeof(int));
	for (int i = 0; i < c->n; i++)
	{
		uint64_t	s = pieces[i].hash & (uint64_t) (cap * 2 - 1);

		while (slots[s])
			s = (s + 1) & (uint64_t) (cap * 2 - 1);
		slots[s] = i + 1;
	}
	mr_free(c->env, c->pieces);
	mr_free(c->env, c->slots);
	c->pieces = pieces;
	c->slots = slots;
	c->cap = cap;
	return true;
}

bool
nn_content_add(nn_content *c, void *bytes, uint64_t len, uint64_t *at)
{
	uint64_t	hash,
				mask,
				s;

	if (c->n == c->cap && !grow(c))
	{
		mr_free(c->env, bytes);
		return false;
	}
	hash = hash_of(bytes, align64(len));
	mask = (uint64_t) c->cap * 2 - 1;
	for (s = hash & mask; c->slots[s]; s = (s + 1) & mask)
	{
		const nn_piece *p = &c->pieces[c->slots[s] - 1];

		if (p->hash == hash && p->len == len && memcmp(p->bytes, bytes, len) == 0)
		{
			mr_free(c->env, bytes);
			*at = p->at;
			return true;
		}
	}
	c->slots[s] = c->n + 1;
	c->pieces[c->n++] = (nn_piece) {bytes, len, c->len, hash};
	*at = c->len;
	c->len += align64(len);
	return true;
}

void
nn_content_copy(nn_content *c, uint8_t *dst)
{
	for (int i = 0; i < c->n; i++)
	{
		nn_piece   *p = &c->pieces[i];

		memcpy(dst + p->at, p->bytes, align64(p->len));
		mr_free(c->env, p->bytes);
		p->bytes = NULL;
	}
}

void
nn_content_free(nn_content *c)
{
	for (int i = 0; i < c->n; i++)
		mr_free(c->env, c->pieces[i].bytes);
	mr_free(c->env, c->pieces);
	mr_free(c->env, c->slots);
	memset(c, 0, sizeof(*c));
}
