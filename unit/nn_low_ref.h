/*
 * nn_low_ref.h
 *	  Shared by the tests of the int8 and bfloat16 kernels: random tensors of any
 *	  element with poisoned surroundings, read as double, and the tables in turn.
 */
#ifndef MILLRACE_UNIT_NN_LOW_REF_H
#define MILLRACE_UNIT_NN_LOW_REF_H

#include "nn/kernels_low.h"
#include "nn_kernels_ref.h"

static const char *const kind_names[] = {"u8", "bf16", "w16"};

typedef struct low
{
	nn_low_view l;
	uint8_t    *base,
			   *before;			/* what lay there at first */
	size_t		n;
	nn_margin	m;
} low;

static __attribute__((unused)) nn_elem
elem_of(nn_low_kind kind)
{
	return kind == nn_low_u8 ? nn_elem_u8 : kind == nn_low_bf16 ? nn_elem_bf16 : nn_elem_f32;
}

static __attribute__((unused)) nn_quant
some_quant(nn_elem e)
{
	nn_quant	q = {e, 1, 0};

	if (e == nn_elem_u8)
	{
		static const int zeros[] = {0, 128, 255, 3, 131};

		q.scale = 0.01f + 0.0001f * (float) between(0, 100);
		q.zero = zeros[between(0, 4)];
	}
	return q;
}

/* An element as a number, and its address. */
static uint8_t *
low_cell(const nn_low_view *l, int c, int y, int x)
{
	int			lanes = nn_elem_lanes(l->q.elem);

	return (uint8_t *) (l->v.data + c / lanes * l->v.blk_pitch + y * l->v.row_pitch + x * 16) +
		c % lanes * nn_elem_bytes(l->q.elem);
}

static double
read_elem(const void *p, nn_quant q)
{
	float		f;
	uint16_t	h;

	switch (q.elem)
	{
		case nn_elem_u8:
			return ((double) *(const uint8_t *) p - q.zero) * q.scale;
		case nn_elem_bf16:
			memcpy(&h, p, 2);
			return nn_from_bf16(h);
		default:
			memcpy(&f, p, 4);
			return f;
	}
}

static void
random_elem(void *p, nn_quant q)
{
	float		f = uniform();
	uint16_t	h = nn_to_bf16(f);

	if (q.elem == nn_elem_u8)
		*(uint8_t *) p = (uint8_t) rnd();
	else if (q.elem == nn_elem_bf16)
		memcpy(p, &h, 2);
	else
		memcpy(p, &f, 4);
}

/* A tensor of poison: NaN, or bytes that no zero point is. */
static low
low_make(int c, int h, int w, nn_margin m, nn_quant q)
{
	low			t;
	size_t		extra = between(0, 1);

	t.m = m;
	t.l.q = q;
	t.l.v.c = c;
	t.l.v.h = h;
	t.l.v.w = w;
	t.l.v.row_pitch = 16 * (m.left + w + m.right + extra);
	t.l.v.blk_pitch = t.l.v.row_pitch * (m.top + h + m.bottom) + 16 * extra;
	t.n = t.l.v.blk_pitch * nn_elem_blocks(q.elem, c) * 4;
	t.base = aligned(t.n);
	t.before = malloc(t.n);
	memset(t.base, q.elem == nn_elem_u8 ? 77 : 0xff, t.n);
	memcpy(t.before, t.base, t.n);
	t.l.v.data = (float *) t.base + m.top * t.l.v.row_pitch + 16 * (size_t) m.left;
	return t;
}

/* Random inside and, of uint8, in padding lanes; the zero point in the border. */
static void
low_fill(low *t)
{
	int			lanes = nn_elem_lanes(t->l.q.elem);

	nn_low_border(&t->l, t->m);
	for (int c = 0; c < lanes * nn_elem_blocks(t->l.q.elem, t->l.v.c); c++)
		for (int y = 0; y < t->l.v.h; y++)
			for (int x = 0; x < t->l.v.w; x++)
			{
				if (c < t->l.v.c || t->l.q.elem == nn_elem_u8)
					random_elem(low_cell(&t->l, c, y, x), t->l.q);
				else
					memset(low_cell(&t->l, c, y, x), 0, nn_elem_bytes(t->l.q.elem));
			}
}

/* Untouched around the interior; padding lanes zero but in uint8. */
static bool
low_clean(const low *t)
{
	int			lanes = nn_elem_lanes(t->l.q.elem),
				size = nn_elem_bytes(t->l.q.elem);
	uint8_t    *now = malloc(t->n);
	bool		good = true;

	memcpy(now, t->base, t->n);
	for (int c = 0; c < lanes * nn_elem_blocks(t->l.q.elem, t->l.v.c); c++)
		for (int y = 0; y < t->l.v.h; y++)
			for (int x = 0; x < t->l.v.w; x++)
			{
				uint8_t    *p = low_cell(&t->l, c, y, x);

				if (c >= t->l.v.c && t->l.q.elem != nn_elem_u8)
					for (int i = 0; i < size; i++)
						good = good && p[i] == 0;
				memcpy(now + (p - t->base), t->before + (p - t->base), size);
			}
	good = good && memcmp(now, t->before, t->n) == 0;
	free(now);
	return good;
}

/* How far two tensors of one element are apart, in quanta or bits at most 1. */
static __attribute__((unused)) int
low_apart(const low *a, const low *b)
{
	int			worst = 0,
				size = nn_elem_bytes(a->l.q.elem);

	for (int c = 0; c < a->l.v.c; c++)
		for (int y = 0; y < a->l.v.h; y++)
			for (int x = 0; x < a->l.v.w; x++)
			{
				uint8_t    *p = low_cell(&a->l, c, y, x),
						   *q = low_cell(&b->l, c, y, x);
				int			d = a->l.q.elem == nn_elem_u8 ? abs(*p - *q) : memcmp(p, q, size) != 0;

				worst = d > worst ? d : worst;
			}
	return worst;
}

static void
low_free(low *t)
{
	free(t->base);
	free(t->before);
}

/* Is the stored p what want (whose parts add up to mass) rounds to? */
static bool
elem_is(const void *p, nn_quant q, double want, double mass)
{
	double		got = read_elem(p, q);

	if (q.elem == nn_elem_u8)
	{
		double		lo = -q.zero * (double) q.scale,
					hi = (255 - q.zero) * (double) q.scale;

		want = want < lo ? lo : want > hi ? hi : want;
		return fabs(got - want) <= q.scale * 0.51 + 1e-5 * mass;
	}
	if (q.elem == nn_elem_bf16)
		return fabs(got - want) <= fabs(want) / 250 + 1e-5 * mass;
	return fabs(got - want) <= 1e-5 * (fabs(want) + mass);
}

/* Each table of a kind this machine has; where one is emulated, that and the
 * first, which needs no such CPU. */
static int
low_tables(nn_low_kind kind, const nn_low_kernels **k)
{
	int			n = 0;

#ifdef LOW_EMULATED
	if (kind != LOW_EMULATED.kind || !nn_isa_available(nn_isa_avx512_bf16))
		return 0;
	if (nn_low_for(nn_isa_portable, kind))
		k[n++] = nn_low_for(nn_isa_portable, kind);
	k[n++] = &LOW_EMULATED;
	return n;
#endif
	for (nn_isa isa = nn_isa_portable; isa <= nn_isa_last; isa++)
		if (nn_low_isa(isa, kind) == isa && nn_low_for(isa, kind))
			k[n++] = nn_low_for(isa, kind);
	return n;
}

#endif							/* MILLRACE_UNIT_NN_LOW_REF_H */
