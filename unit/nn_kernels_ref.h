/*
 * nn_kernels_ref.h
 *	  Shared by the kernels' tests: random views with poisoned surroundings, and
 *	  the activations in double.
 */
#ifndef MILLRACE_UNIT_NN_KERNELS_REF_H
#define MILLRACE_UNIT_NN_KERNELS_REF_H

#include <math.h>
#include <stdint.h>

#include "unit.h"
#include "nn/kernels.h"

static const nn_kernels *K;
static uint64_t seed = 88172645463325252ull;

static __attribute__((unused)) uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t) (seed >> 16);
}

static __attribute__((unused)) int
between(int lo, int hi)
{
	return lo + (int) (rnd() % (uint32_t) (hi - lo + 1));
}

static __attribute__((unused)) float
uniform(void)
{
	return (float) (rnd() % 20001) / 10000.0f - 1.0f;
}

static __attribute__((unused)) void *
aligned(size_t bytes)
{
	void	   *p = NULL;

	if (posix_memalign(&p, 64, bytes ? bytes : 64))
		exit(2);
	return p;
}

static __attribute__((unused)) float *
floats(size_t n)
{
	float	   *p = malloc((n ? n : 1) * sizeof(float));

	for (size_t i = 0; i < n; i++)
		p[i] = uniform();
	return p;
}

/* ---- views with poisoned surroundings ---- */

typedef struct tensor
{
	nn_view		v;
	float	   *base;
	size_t		n;
	nn_margin	m;
} tensor;

static __attribute__((unused)) tensor
make(int c, int h, int w, nn_margin m)
{
	tensor		t;
	int			extra = between(0, 1);	/* floats of slack between lines and blocks */

	t.m = m;
	t.v.c = c;
	t.v.h = h;
	t.v.w = w;
	t.v.row_pitch = 16 * (size_t) (m.left + w + m.right + extra);
	t.v.blk_pitch = t.v.row_pitch * (m.top + h + m.bottom) + 16 * extra;
	t.n = t.v.blk_pitch * nn_blocks(c);
	t.base = aligned(t.n * sizeof(float));
	for (size_t i = 0; i < t.n; i++)
		t.base[i] = NAN;
	t.v.data = t.base + m.top * t.v.row_pitch + 16 * (size_t) m.left;
	return t;
}

static __attribute__((unused)) float *
cell(const nn_view *v, int c, int y, int x)
{
	return v->data + c / 16 * v->blk_pitch + y * v->row_pitch + x * 16 + c % 16;
}

/* Random values inside, zeros in padding lanes and in the border. */
static __attribute__((unused)) void
fill(tensor *t)
{
	for (int c = 0; c < 16 * nn_blocks(t->v.c); c++)
		for (int y = 0; y < t->v.h; y++)
			for (int x = 0; x < t->v.w; x++)
				*cell(&t->v, c, y, x) = c < t->v.c ? uniform() : 0;
	nn_border(&t->v, t->m);
}

/* Is the poison around the interior untouched, and are padding lanes zero? */
static __attribute__((unused)) bool
clean(const tensor *t)
{
	bool	   *inside = calloc(t->n, sizeof(bool));
	bool		good = true;

	for (int c = 0; c < 16 * nn_blocks(t->v.c); c++)
		for (int y = 0; y < t->v.h; y++)
			for (int x = 0; x < t->v.w; x++)
			{
				float	   *p = cell(&t->v, c, y, x);

				inside[p - t->base] = true;
				if (c >= t->v.c && *p != 0)
					good = false;
			}
	for (size_t i = 0; i < t->n; i++)
		if (!inside[i] && !isnan(t->base[i]))
			good = false;
	free(inside);
	return good;
}

static __attribute__((unused)) nn_margin
no_margin(void)
{
	nn_margin	m = {0, 0, 0, 0};

	return m;
}

static __attribute__((unused)) nn_margin
some_margin(void)
{
	nn_margin	m = {between(0, 1), between(0, 2), between(0, 1), between(0, 2)};

	return m;
}

/* Equal bits of two tensors' interiors. */
static __attribute__((unused)) bool
same(const tensor *a, const tensor *b)
{
	for (int c = 0; c < a->v.c; c++)
		for (int y = 0; y < a->v.h; y++)
			for (int x = 0; x < a->v.w; x++)
				if (memcmp(cell(&a->v, c, y, x), cell(&b->v, c, y, x), sizeof(float)) != 0)
					return false;
	return true;
}

/* ---- activations ---- */

static __attribute__((unused)) nn_act
random_act(int kind)
{
	nn_act		a = {(nn_act_kind) kind, 0, 0};

	if (kind == nn_act_clip)
	{
		a.a = between(0, 1) ? -0.5f : 0.25f;
		a.b = 0.75f;
	}
	else if (kind == nn_act_leaky)
		a.a = 0.1f;
	else if (kind == nn_act_hardsigmoid)
	{
		a.a = 0.2f;
		a.b = 0.5f;
	}
	else if (kind == nn_act_elu)
		a.a = 1.3f;
	return a;
}

static __attribute__((unused)) double
act_ref(double x, nn_act a)
{
	double		t;

	switch (a.kind)
	{
		case nn_act_none:
			return x;
		case nn_act_relu:
			return x > 0 ? x : 0;
		case nn_act_clip:
			t = x > a.a ? x : a.a;
			return t < a.b ? t : a.b;
		case nn_act_leaky:
			return x < 0 ? a.a * x : x;
		case nn_act_sigmoid:
			return 1 / (1 + exp(-x));
		case nn_act_silu:
			return x / (1 + exp(-x));
		case nn_act_tanh:
			return tanh(x);
		case nn_act_hardsigmoid:
			t = a.a * x + a.b;
			return t < 0 ? 0 : t > 1 ? 1 : t;
		case nn_act_hardswish:
			t = x / 6 + 0.5;
			return x * (t < 0 ? 0 : t > 1 ? 1 : t);
		case nn_act_gelu:
			return 0.5 * x * (1 + erf(x / sqrt(2.0)));
		case nn_act_elu:
			return x < 0 ? a.a * expm1(x) : x;
		case nn_act_exp:
			return exp(x);
		case nn_act_gelu_tanh:
			return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
		case nn_act_gelu_quick:
			return x / (1 + exp(-1.702 * x));
	}
	return x;
}

/* size: the magnitude of what was added up; exp makes errors relative to it. */
static __attribute__((unused)) double
act_mass(double want, nn_act act, double mass)
{
	return act.kind == nn_act_exp ? want * mass : mass;
}

static __attribute__((unused)) bool
close_to(double got, double want, double size)
{
	return fabs(got - want) <= 1e-5 * (fabs(want) + size);
}

/* Run test with each instruction set of this machine as K. */
static __attribute__((unused)) void
each_isa(void (*test) (void))
{
	for (nn_isa isa = nn_isa_portable; isa <= nn_isa_avx512; isa++)
	{
		K = nn_kernels_for(isa);
		if (K == NULL)
			skip("instruction set absent");
		else
		{
			ok(K->isa == isa, "%s: its own table", K->name);
			test();
		}
	}
}

#endif							/* MILLRACE_UNIT_NN_KERNELS_REF_H */
