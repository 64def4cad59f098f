/*
 * test_nn_low_body.c
 *	  The int8 and bfloat16 kernels other than convolutions and products, of every
 *	  instruction set of this machine, against naive loops in double: pools,
 *	  element-wise work, conversions, channel copies, tables, borders; and the
 *	  levels of instruction sets.
 */
#include "nn_low_ref.h"

static const nn_low_kernels *T;	/* the table under test */

static const int tails[] = {1, 3, 15, 16, 17, 24, 33, 63, 64, 65, 96, 144};

static nn_quant
native_or_float(void)
{
	return some_quant(between(0, 2) ? T->elem : nn_elem_f32);
}

static double
value(const low *t, int c, int y, int x)
{
	return read_elem(low_cell(&t->l, c, y, x), t->l.q);
}

/* Is every element of out what want() says? */
static bool
all_are(const low *out, double (*want) (int c, int y, int x, double *mass))
{
	bool		good = low_clean(out);

	for (int c = 0; c < out->l.v.c; c++)
		for (int y = 0; y < out->l.v.h; y++)
			for (int x = 0; x < out->l.v.w; x++)
			{
				double		mass = 0.01,
							v = want(c, y, x, &mass);

				good = good && elem_is(low_cell(&out->l, c, y, x), out->l.q, v, mass);
			}
	return good;
}

/* ---- pools ---- */

static nn_pool pool;
static low	in,
			in2;
static bool pool_max;

static double
pool_ref(int c, int y, int x, double *mass)
{
	double		acc = pool_max ? -INFINITY : 0;
	int			count = 0;

	for (int ky = 0; ky < pool.kh; ky++)
		for (int kx = 0; kx < pool.kw; kx++)
		{
			int			iy = y * pool.sh - pool.pt + ky * pool.dh,
						ix = x * pool.sw - pool.pl + kx * pool.dw;

			if (iy < in.l.v.h + pool.pb && ix < in.l.v.w + pool.pr)
				count += pool.count_pad;
			if (iy < 0 || iy >= in.l.v.h || ix < 0 || ix >= in.l.v.w)
				continue;
			count += !pool.count_pad;
			acc = pool_max ? fmax(acc, value(&in, c, iy, ix)) : acc + value(&in, c, iy, ix);
			*mass += fabs(value(&in, c, iy, ix));
		}
	return pool_max ? acc : acc / count;
}

static double
global_ref(int c, int y, int x, double *mass)
{
	double		sum = 0;

	for (int i = 0; i < in.l.v.h; i++)
		for (int j = 0; j < in.l.v.w; j++)
			sum += value(&in, c, i, j);
	*mass += 1;
	return sum / (in.l.v.h * in.l.v.w);
}

static void
test_pools(void)
{
	bool		good = true;

	for (int i = 0; i < 48 && good; i++)
	{
		int			k = between(1, 4);
		low			out;
		nn_quant	q = some_quant(T->elem);

		pool = (nn_pool) {.kh = k, .kw = between(1, 4), .sh = between(1, 2), .sw = between(1, 2), .dh = 1, .dw = 1,
			.pt = k / 2, .pl = 0, .pb = k / 2, .pr = 0, .count_pad = i & 1};
		pool_max = i & 2;
		in = low_make(tails[i % 12], between(5, 9), between(5, 20), no_margin(), q);
		low_fill(&in);
		out = low_make(in.l.v.c, (in.l.v.h + pool.pt + pool.pb - pool.kh) / pool.sh + 1,
					   (in.l.v.w - pool.kw) / pool.sw + 1, some_margin(), i % 3 ? q : native_or_float());
		(pool_max ? T->maxpool : T->avgpool) (&pool, &in.l, &out.l, 0, 2);
		(pool_max ? T->maxpool : T->avgpool) (&pool, &in.l, &out.l, 2, out.l.v.h);
		good = all_are(&out, pool_ref);
		low_free(&out);
		out = low_make(in.l.v.c, 1, 1, no_margin(), native_or_float());
		T->global_avgpool(&in.l, &out.l);
		good &= all_are(&out, global_ref);
		low_free(&out);
		low_free(&in);
	}
	ok(good, "%s: pools", T->name);
}

/* ---- element-wise ---- */

static nn_binary op;
static nn_act act;
static bool pixel;

static double
binary_ref(int c, int y, int x, double *mass)
{
	double		a = value(&in, c, y, x),
				b = pixel ? value(&in2, c, 0, 0) : value(&in2, c, y, x),
				r = op == nn_add ? a + b : op == nn_sub ? a - b : op == nn_mul ? a * b : op == nn_min ? fmin(a, b) : fmax(a, b);

	*mass = act_mass(act_ref(r, act), act, fabs(a) + fabs(b) + 0.01);
	return act_ref(r, act);
}

static double
act_of(int c, int y, int x, double *mass)
{
	double		v = act_ref(value(&in, c, y, x), act);

	*mass = act_mass(v, act, fabs(value(&in, c, y, x)) + 0.01);
	return v;
}

static void
test_elements(void)
{
	bool		good = true;

	for (int i = 0; i < 48 && good; i++)
	{
		static const nn_binary ops[] = {nn_add, nn_mul, nn_sub, nn_min, nn_max};
		int			c = tails[i % 12],
					h = between(1, 5),
					w = between(1, 35);
		low			out;

		op = ops[i % 5];
		act = random_act(i % (nn_act_last + 1));
		pixel = i & 1;
		in = low_make(c, h, w, no_margin(), native_or_float());
		in2 = low_make(c, pixel ? 1 : h, pixel ? 1 : w, no_margin(), native_or_float());
		out = low_make(c, h, w, some_margin(), native_or_float());
		low_fill(&in);
		low_fill(&in2);
		T->binary(op, &in.l, &in2.l, &out.l, act, 0, h / 2);
		T->binary(op, &in.l, &in2.l, &out.l, act, h / 2, h);
		good = all_are(&out, binary_ref);
		T->convert(&in.l, &out.l, act, 0, h);
		good &= all_are(&out, act_of);
		if (!good)
			printf("# op %d act %d c %d in %d,%d out %d\n", op, act.kind, c, in.l.q.elem, in2.l.q.elem, out.l.q.elem);
		low_free(&in);
		low_free(&in2);
		low_free(&out);
	}
	ok(good, "%s: element-wise, with other scales and elements", T->name);
}

static void
test_layouts(void)
{
	bool		good = true;

	for (int i = 0; i < 36 && good; i++)
	{
		int			c = tails[i % 12],
					h = between(1, 4),
					w = between(1, 35);
		nn_quant	q = native_or_float();
		size_t		n = (size_t) c * h * w,
					size = nn_elem_bytes(q.elem);
		nn_low_rows plain = {malloc(n * size), 0, q},
					back = {malloc(n * size), 0, q};
		low			out = low_make(c, h, w, some_margin(), i & 1 ? some_quant(T->elem) :
								   (nn_quant) {T->elem, q.elem == nn_elem_u8 ? q.scale : 0.01f, q.elem == nn_elem_u8 ? q.zero : 100});

		for (size_t j = 0; j < n; j++)
			random_elem((char *) plain.data + j * size, q);
		T->from_plain(&plain, &out.l, 0, h);
		T->to_plain(&out.l, &back, 0, h);
		good &= low_clean(&out);
		for (size_t j = 0; j < n; j++)
		{
			void	   *cell = low_cell(&out.l, (int) (j / (h * w)), (int) (j / w % h), (int) (j % w));
			double		v = read_elem((char *) plain.data + j * size, q);

			good &= elem_is(cell, out.l.q, v, fabs(v)) &&
				elem_is((char *) back.data + j * size, q, read_elem(cell, out.l.q), 1);
		}
		/* rows, of the same elements */
		{
			nn_quant	rq = some_quant(T->elem);
			int			cols = between(1, 300);
			nn_low_rows a = {malloc(2 * 310 * sizeof(float)), 310, q},
						b = {malloc(2 * 305 * sizeof(float)), 305, rq};

			for (int j = 0; j < 620; j++)
				random_elem((char *) a.data + j * size, q);
			T->convert_rows(&a, &b, random_act(nn_act_relu), 2, cols);
			for (int j = 0; j < 2 * cols; j++)
			{
				double		v = read_elem((char *) a.data + (j / cols * 310 + j % cols) * size, q);

				good &= elem_is((char *) b.data + (j / cols * 305 + j % cols) * nn_elem_bytes(rq.elem), rq, v > 0 ? v : 0,
								fabs(v));
			}
			free(a.data);
			free(b.data);
		}
		low_free(&out);
		free(plain.data);
		free(back.data);
	}
	ok(good, "%s: plain and blocked, rows", T->name);

	good = true;
	for (int i = 0; i < 60 && good; i++)
	{
		int			n = tails[i % 12],
					from = between(0, 70),
					to = between(0, 70),
					sy = between(1, 2),
					sx = between(1, 2),
					h = between(1, 3),
					w = between(1, 9);
		nn_quant	q = some_quant(T->elem);
		low			src = low_make(from + n + between(0, 20), h * sy, w * sx, no_margin(), q),
					dst = low_make(to + n + (i & 1 ? 0 : between(1, 90)), h, w, some_margin(), i % 3 ? q : some_quant(T->elem)),
					was;

		low_fill(&src);
		low_fill(&dst);
		memcpy(dst.before, dst.base, dst.n);
		was = dst;
		was.base = malloc(dst.n);
		memcpy(was.base, dst.base, dst.n);
		was.l.v.data = (float *) (was.base + ((uint8_t *) dst.l.v.data - dst.base));
		T->copy_channels(&src.l, from, n, sy, sx, &dst.l, to, 0, h);
		good &= low_clean(&dst);
		for (int c = 0; c < dst.l.v.c; c++)
			for (int y = 0; y < h; y++)
				for (int x = 0; x < w; x++)
				{
					void	   *p = low_cell(&dst.l, c, y, x);

					if (c < to || c >= to + n)
						good &= memcmp(p, low_cell(&was.l, c, y, x), nn_elem_bytes(T->elem)) == 0;
					else
						good &= elem_is(p, dst.l.q, value(&src, from + c - to, y * sy, x * sx), 0.01);
				}
		free(was.base);
		low_free(&src);
		low_free(&dst);
	}
	ok(good, "%s: copies of channels", T->name);
}

/* ---- without a table of kernels ---- */

static void
test_tables(void)
{
	bool		good = true;

	for (int i = 0; i < 60 && good; i++)
	{
		nn_quant	q = some_quant(nn_elem_u8),
					r = some_quant(nn_elem_u8);
		uint8_t		table[256];
		low			out;

		act = random_act(i % (nn_act_last + 1));
		nn_low_table(q, act, r, table);
		in = low_make(tails[i % 12], 3, between(1, 20), no_margin(), q);
		low_fill(&in);
		out = low_make(in.l.v.c, 3, in.l.v.w, some_margin(), r);
		nn_low_map(table, &in.l, &out.l, 0, 1);
		nn_low_map(table, &in.l, &out.l, 1, 3);
		good = all_are(&out, act_of);
		low_free(&in);
		low_free(&out);
	}
	ok(good, "tables of activations");

	good = true;
	for (int i = 0; i < 20; i++)
	{
		nn_margin	m = {between(0, 2), between(0, 2), between(0, 2), between(0, 2)};
		low			t = low_make(tails[i % 12], 2, 3, m, some_quant(i % 2 ? nn_elem_u8 : nn_elem_bf16));

		nn_low_border(&t.l, m);
		for (int b = 0; b < nn_elem_blocks(t.l.q.elem, t.l.v.c); b++)
			for (int y = -m.top; y < 2 + m.bottom; y++)
				for (int x = -m.left; x < 3 + m.right; x++)
					for (int k = 0; k < 64; k++)
					{
						ptrdiff_t	w = (ptrdiff_t) (b * t.l.v.blk_pitch) + y * (ptrdiff_t) t.l.v.row_pitch + x * 16;
						uint8_t		v = ((uint8_t *) (t.l.v.data + w))[k];
						bool		border = y < 0 || y >= 2 || x < 0 || x >= 3;

						good &= v == (border ? t.l.q.zero : t.l.q.elem == nn_elem_u8 ? 77 : 0xff);
					}
		low_free(&t);
	}
	ok(good, "borders hold the zero point");

	{
		float		x[21],
					zeros[3] = {0, 0, 0};
		nn_quant	q;

		for (int i = 0; i < 21; i++)
			x[i] = (float) i * 0.25f - 1;
		q = nn_low_dynamic(x, 21);
		ok(fabsf(q.scale - 5.0f / 255) < 1e-7f && q.zero == 51 && nn_low_dynamic(x + 10, 5).zero == 0 &&
		   nn_low_dynamic(zeros, 3).scale == 1 && nn_low_dynamic(x, 0).scale == 1, "ranges of dynamic quantisation");
	}
	ok(nn_to_bf16(1.00390625f) == 0x3f80 && nn_to_bf16(1.01171875f) == 0x3f82 && nn_to_bf16(-INFINITY) == 0xff80 &&
	   isnan(nn_from_bf16(nn_to_bf16(NAN))), "bfloat16 rounds half to even");
}

static void
test_levels(void)
{
	nn_isa		best = nn_isa_best();
	bool		good = true;

	for (nn_isa isa = nn_isa_portable; isa <= nn_isa_last; isa++)
		good &= nn_isa_available(isa) == (isa <= best) || (isa == nn_isa_amx && !nn_isa_available(isa));
	ok(good, "each level contains those before it");
	ok(nn_low_isa(nn_isa_avx512_bf16, nn_low_u8) == nn_isa_avx512_vnni && nn_low_isa(nn_isa_avx2, nn_low_u8) == nn_isa_avx2 &&
	   nn_low_isa(nn_isa_amx, nn_low_u8) == nn_isa_amx && nn_low_isa(nn_isa_avx512_vnni, nn_low_bf16) == nn_isa_auto &&
	   nn_low_isa(nn_isa_avx512_bf16, nn_low_bf16) == nn_isa_avx512_bf16 && nn_low_isa(nn_isa_amx, nn_low_w16) == nn_isa_avx512 &&
	   nn_low_isa(nn_isa_auto, nn_low_u8) == nn_low_isa(best, nn_low_u8), "levels of the kinds");
}

int
main(void)
{
	test_levels();
	test_tables();
	for (nn_low_kind kind = nn_low_u8; kind <= nn_low_bf16; kind++)
	{
		const nn_low_kernels *k[8];
		int			n = low_tables(kind, k);

		if (n == 0)
			skip("no kernels of this kind for this CPU");
		for (int i = 0; i < n; i++)
		{
			T = k[i];
			test_pools();
			test_elements();
			test_layouts();
		}
	}
	return done_testing();
}
