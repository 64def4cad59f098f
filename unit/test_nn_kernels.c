/*
 * test_nn_kernels.c
 *	  Every kernel of every instruction set of this machine against naive loops
 *	  in double, on random shapes: odd sizes, channels that are not multiples of
 *	  16, pads, strides, dilation, groups, residuals, each activation.
 *
 * Outputs and everything around interiors are poisoned with NaN first; borders
 * that a kernel may read are zeroed, so reading more shows as NaN, and writing
 * outside the interior as a changed poison.  Each case runs whole and in two
 * slices of lines, which must agree to the bit.
 */
#include <math.h>
#include <stdint.h>

#include "unit.h"
#include "nn/kernels.h"

static const nn_kernels *K;
static uint64_t seed = 88172645463325252ull;

static uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t) (seed >> 16);
}

static int
between(int lo, int hi)
{
	return lo + (int) (rnd() % (uint32_t) (hi - lo + 1));
}

static float
uniform(void)
{
	return (float) (rnd() % 20001) / 10000.0f - 1.0f;
}

static void *
aligned(size_t bytes)
{
	void	   *p = NULL;

	if (posix_memalign(&p, 64, bytes ? bytes : 64))
		exit(2);
	return p;
}

static float *
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

static tensor
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

static float *
cell(const nn_view *v, int c, int y, int x)
{
	return v->data + c / 16 * v->blk_pitch + y * v->row_pitch + x * 16 + c % 16;
}

/* Random values inside, zeros in padding lanes and in the border. */
static void
fill(tensor *t)
{
	for (int c = 0; c < 16 * nn_blocks(t->v.c); c++)
		for (int y = 0; y < t->v.h; y++)
			for (int x = 0; x < t->v.w; x++)
				*cell(&t->v, c, y, x) = c < t->v.c ? uniform() : 0;
	nn_border(&t->v, t->m);
}

/* Is the poison around the interior untouched, and are padding lanes zero? */
static bool
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

static nn_margin
no_margin(void)
{
	nn_margin	m = {0, 0, 0, 0};

	return m;
}

static nn_margin
some_margin(void)
{
	nn_margin	m = {between(0, 1), between(0, 2), between(0, 1), between(0, 2)};

	return m;
}

/* Equal bits of two tensors' interiors. */
static bool
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

static nn_act
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

static double
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
	}
	return x;
}

/* size: the magnitude of what was added up; exp makes errors relative to it. */
static double
act_mass(double want, nn_act act, double mass)
{
	return act.kind == nn_act_exp ? want * mass : mass;
}

static bool
close_to(double got, double want, double size)
{
	return fabs(got - want) <= 1e-5 * (fabs(want) + size);
}

/* ---- convolution ---- */

static bool
conv_case(nn_conv cv, int h, int w, bool use_res, bool depthwise)
{
	int			oh,
				ow,
				pb = between(0, cv.pt),
				pr = between(0, cv.pl);
	int			g_in = cv.cin / cv.groups,
				g_out = cv.cout / cv.groups;
	size_t		taps = (size_t) cv.kh * cv.kw;
	size_t		size;
	float	   *wt,
			   *bias,
			   *plain = NULL;
	void	   *pack,
			   *scratch;
	tensor		in,
				res,
				out,
				cut;
	bool		good;
	int			mid;

	oh = (h + cv.pt + pb - ((cv.kh - 1) * cv.dh + 1)) / cv.sh + 1;
	ow = (w + cv.pl + pr - ((cv.kw - 1) * cv.dw + 1)) / cv.sw + 1;
	if (h + cv.pt + pb < (cv.kh - 1) * cv.dh + 1 || w + cv.pl + pr < (cv.kw - 1) * cv.dw + 1)
		return true;
	in = make(cv.cin, h, w, nn_conv_margin(&cv, h, w, oh, ow));
	fill(&in);
	res = make(cv.cout, oh, ow, some_margin());
	fill(&res);
	{
		nn_margin	m = between(0, 1) ? no_margin() : some_margin();

		out = make(cv.cout, oh, ow, m);
		cut = make(cv.cout, oh, ow, m);
	}
	wt = floats(cv.cout * g_in * taps);
	bias = between(0, 3) ? floats(cv.cout) : NULL;
	size = depthwise ? nn_depthwise_pack_size(K->isa, &cv) : nn_conv_pack_size(K->isa, &cv);
	pack = aligned(size);
	memset(pack, 0xff, size);
	if (depthwise)
		nn_depthwise_pack(K->isa, &cv, wt, bias, pack);
	else
		nn_conv_pack(K->isa, &cv, wt, bias, pack);
	good = nn_pack_check(pack, size, K->isa, depthwise ? nn_pack_depthwise : nn_pack_conv, &cv) &&
		!nn_pack_check(pack, size - 4, K->isa, depthwise ? nn_pack_depthwise : nn_pack_conv, &cv);
	scratch = aligned(depthwise ? 0 : K->conv_scratch(&cv, h, w, oh, ow));
	mid = between(0, oh);
	if (cv.form == nn_conv_planar)
	{
		plain = floats((size_t) cv.cin * h * w);
		for (int c = 0; c < cv.cin; c++)
			for (int y = 0; y < h; y++)
				for (int x = 0; x < w; x++)
					*cell(&in.v, c, y, x) = plain[((size_t) c * h + y) * w + x];
		K->conv_planar(&cv, pack, plain, h, w, use_res ? &res.v : NULL, &out.v, 0, oh, scratch);
		K->conv_planar(&cv, pack, plain, h, w, use_res ? &res.v : NULL, &cut.v, mid, oh, scratch);
		K->conv_planar(&cv, pack, plain, h, w, use_res ? &res.v : NULL, &cut.v, 0, mid, scratch);
	}
	else if (depthwise)
	{
		K->depthwise(&cv, pack, &in.v, use_res ? &res.v : NULL, &out.v, 0, oh);
		K->depthwise(&cv, pack, &in.v, use_res ? &res.v : NULL, &cut.v, mid, oh);
		K->depthwise(&cv, pack, &in.v, use_res ? &res.v : NULL, &cut.v, 0, mid);
	}
	else
	{
		K->conv(&cv, pack, &in.v, use_res ? &res.v : NULL, &out.v, 0, oh, scratch);
		K->conv(&cv, pack, &in.v, use_res ? &res.v : NULL, &cut.v, mid, oh, scratch);
		K->conv(&cv, pack, &in.v, use_res ? &res.v : NULL, &cut.v, 0, mid, scratch);
	}
	good = good && clean(&out) && clean(&cut) && same(&out, &cut);
	for (int o = 0; o < cv.cout; o++)
		for (int y = 0; y < oh; y++)
			for (int x = 0; x < ow; x++)
			{
				double		sum = bias ? bias[o] : 0,
							mass = fabs(sum);

				for (int i = 0; i < g_in; i++)
					for (int ky = 0; ky < cv.kh; ky++)
						for (int kx = 0; kx < cv.kw; kx++)
						{
							int			iy = y * cv.sh - cv.pt + ky * cv.dh,
										ix = x * cv.sw - cv.pl + kx * cv.dw;
							double		p;

							if (iy < 0 || iy >= h || ix < 0 || ix >= w)
								continue;
							p = (double) wt[(o * g_in + i) * taps + ky * cv.kw + kx] *
								*cell(&in.v, o / g_out * g_in + i, iy, ix);
							sum += p;
							mass += fabs(p);
						}
				if (use_res)
					sum += *cell(&res.v, o, y, x);
				sum = act_ref(sum, cv.act);
				if (!close_to(*cell(&out.v, o, y, x), sum, act_mass(sum, cv.act, mass + 1e-3)))
					good = false;
			}
	if (!good)
		printf("# cin %d cout %d groups %d k %dx%d s %d,%d d %d,%d p %d,%d in %dx%d act %d res %d form %d\n",
			   cv.cin, cv.cout, cv.groups, cv.kh, cv.kw, cv.sh, cv.sw, cv.dh, cv.dw, cv.pt, cv.pl, h, w,
			   cv.act.kind, use_res, cv.form);
	free(in.base);
	free(res.base);
	free(out.base);
	free(cut.base);
	free(wt);
	free(bias);
	free(pack);
	free(scratch);
	free(plain);
	return good;
}

static nn_conv
shape(int cin, int cout, int k, int s, int p, int act)
{
	nn_conv		cv = {.cin = cin, .cout = cout, .groups = 1, .kh = k, .kw = k, .sh = s, .sw = s,
		.dh = 1, .dw = 1, .pt = p, .pl = p, .form = nn_conv_blocked, .act = random_act(act)};

	return cv;
}

static void
test_conv(void)
{
	bool		good = true;

	/* the layers of real networks, small */
	for (int i = 0; i < 2; i++)
	{
		good &= conv_case(shape(16, 16, 3, 1, 1, nn_act_relu), 32, 32, i, false);
		good &= conv_case(shape(16, 32, 3, 2, 1, nn_act_relu), 32, 32, i, false);
		good &= conv_case(shape(64, 64, 3, 1, 1, nn_act_relu), 8, 8, i, false);
		good &= conv_case(shape(32, 48, 3, 1, 1, nn_act_clip), 7, 7, i, false);
		good &= conv_case(shape(160, 40, 1, 1, 0, nn_act_none), 14, 14, i, false);
		good &= conv_case(shape(24, 144, 1, 1, 0, nn_act_clip), 28, 28, i, false);
	}
	ok(good, "%s: convolutions of common networks", K->name);

	good = true;
	for (int i = 0; i < 120 && good; i++)
	{
		nn_conv		cv = shape(between(1, 70), between(1, 70), 1, 1, 0, i % (nn_act_last + 1));

		cv.kh = between(1, 4);
		cv.kw = between(1, 4);
		cv.sh = between(1, 3);
		cv.sw = between(1, 3);
		cv.dh = between(1, 2);
		cv.dw = between(1, 2);
		cv.pt = between(0, 2);
		cv.pl = between(0, 2);
		good = conv_case(cv, between(1, 19), between(1, 33), between(0, 1), false);
	}
	ok(good, "%s: convolutions of random shape", K->name);

	good = true;
	for (int i = 0; i < 20 && good; i++)
		good = conv_case(shape(between(100, 700), between(1, 40), i % 2 ? 3 : 1, between(1, 3), i % 2, i % 12),
						 between(3, 8), between(3, 8), i & 1, false);
	ok(good, "%s: convolutions with several chunks of K", K->name);

	good = true;
	for (int i = 0; i < 30 && good; i++)
	{
		int			g = between(2, 6);
		nn_conv		cv = shape(g * between(1, 20), g * between(1, 20), between(1, 3), between(1, 3), 1, i % 12);

		cv.groups = g;
		good = conv_case(cv, between(3, 9), between(3, 17), i & 1, false);
	}
	ok(good, "%s: grouped convolutions", K->name);

	good = true;
	for (int i = 0; i < 40 && good; i++)
	{
		static const int cin[] = {3, 3, 3, 1, 4, 16, 2};
		nn_conv		cv = shape(cin[i % 7], between(1, 70), between(1, 7), between(1, 3), between(0, 3), i % 12);

		cv.form = nn_conv_planar;
		cv.dh = between(1, 2);
		cv.dw = i % 3 ? 1 : 2;
		good = conv_case(cv, between(7, 19), between(7, 40), i & 1, false);
	}
	ok(good, "%s: stems from planar input", K->name);

	good = true;
	for (int i = 0; i < 60 && good; i++)
	{
		int			c = between(1, 50);
		nn_conv		cv = shape(c, c, i % 2 ? 3 : between(1, 5), between(1, 3), between(0, 2), i % 12);

		cv.groups = c;
		if (i % 5 == 0)
			cv.dw = cv.dh = 2;
		if (i % 7 == 0)
			cv.kw = between(1, 4);
		good = conv_case(cv, between(3, 17), between(3, 40), i & 1, true);
	}
	ok(good, "%s: depthwise convolutions", K->name);
}

/* ---- pools ---- */

static void
test_pools(void)
{
	bool		good = true;

	for (int i = 0; i < 60 && good; i++)
	{
		nn_pool		p = {.kh = between(1, 4), .kw = between(1, 4), .sh = between(1, 3), .sw = between(1, 3),
			.dh = 1, .dw = 1};
		bool		ceil_mode = between(0, 1),
					max = i & 1;
		int			h = between(4, 15),
					w = between(4, 20),
					c = between(1, 40);
		int			oh,
					ow,
					mid;
		tensor		in,
					out,
					cut;

		if (max)
			p.dh = p.dw = between(1, 2);
		p.pt = between(0, p.kh / 2);
		p.pb = between(0, p.kh / 2);
		p.pl = between(0, p.kw / 2);
		p.pr = between(0, p.kw / 2);
		p.count_pad = between(0, 1);
		if (h + p.pt + p.pb < (p.kh - 1) * p.dh + 1 || w + p.pl + p.pr < (p.kw - 1) * p.dw + 1)
			continue;
		oh = (h + p.pt + p.pb - ((p.kh - 1) * p.dh + 1) + (ceil_mode ? p.sh - 1 : 0)) / p.sh + 1;
		ow = (w + p.pl + p.pr - ((p.kw - 1) * p.dw + 1) + (ceil_mode ? p.sw - 1 : 0)) / p.sw + 1;
		/* the last window must start inside the input or the leading pad */
		if ((oh - 1) * p.sh >= h + p.pt)
			oh--;
		if ((ow - 1) * p.sw >= w + p.pl)
			ow--;
		in = make(c, h, w, no_margin());
		fill(&in);
		out = make(c, oh, ow, some_margin());
		cut = make(c, oh, ow, no_margin());
		mid = between(0, oh);
		(max ? K->maxpool : K->avgpool) (&p, &in.v, &out.v, 0, oh);
		(max ? K->maxpool : K->avgpool) (&p, &in.v, &cut.v, 0, mid);
		(max ? K->maxpool : K->avgpool) (&p, &in.v, &cut.v, mid, oh);
		good = clean(&out) && clean(&cut) && same(&out, &cut);
		for (int k = 0; k < c; k++)
			for (int y = 0; y < oh; y++)
				for (int x = 0; x < ow; x++)
				{
					double		m = -INFINITY,
								sum = 0;
					int			cells = 0;

					for (int ky = 0; ky < p.kh; ky++)
						for (int kx = 0; kx < p.kw; kx++)
						{
							int			iy = y * p.sh - p.pt + ky * p.dh,
										ix = x * p.sw - p.pl + kx * p.dw;
							bool		in_side = iy >= 0 && iy < h && ix >= 0 && ix < w;

							if (in_side)
							{
								double		v = *cell(&in.v, k, iy, ix);

								m = v > m ? v : m;
								sum += v;
							}
							cells += p.count_pad ? iy < h + p.pb && ix < w + p.pr : in_side;
						}
					if (max ? *cell(&out.v, k, y, x) != (float) m :
						!close_to(*cell(&out.v, k, y, x), cells ? sum / cells : 0, 1))
						good = false;
				}
		free(in.base);
		free(out.base);
		free(cut.base);
	}
	ok(good, "%s: max and average pools", K->name);

	good = true;
	for (int i = 0; i < 10; i++)
	{
		int			c = between(1, 70),
					h = between(1, 9),
					w = between(1, 9);
		tensor		in = make(c, h, w, some_margin());
		float	   *mean = aligned(64 * nn_blocks(c)),
				   *top = aligned(64 * nn_blocks(c));

		fill(&in);
		K->global_avgpool(&in.v, mean);
		K->global_maxpool(&in.v, top);
		for (int k = 0; k < 16 * nn_blocks(c); k++)
		{
			double		sum = 0,
						m = k < c ? -INFINITY : 0;

			for (int y = 0; y < h; y++)
				for (int x = 0; x < w; x++)
				{
					sum += *cell(&in.v, k, y, x);
					m = fmax(m, *cell(&in.v, k, y, x));
				}
			good &= close_to(mean[k], sum / (h * w), 0.1) && top[k] == (float) m;
		}
		free(in.base);
		free(mean);
		free(top);
	}
	ok(good, "%s: global pools", K->name);
}

/* ---- element-wise, layouts ---- */

static double
binary_ref(int op, double a, double b)
{
	switch (op)
	{
		case nn_add:
			return a + b;
		case nn_sub:
			return a - b;
		case nn_mul:
			return a * b;
		case nn_div:
			return a / b;
		case nn_min:
			return fmin(a, b);
		default:
			return fmax(a, b);
	}
}

static void
test_elementwise(void)
{
	bool		good = true;

	for (int i = 0; i < 72 && good; i++)
	{
		nn_binary	op = i % 6;
		nn_act		act = random_act(i % (nn_act_last + 1));
		int			c = between(1, 40),
					h = between(1, 7),
					w = between(1, 9);
		bool		pixel = between(0, 1);
		tensor		a = make(c, h, w, some_margin()),
					b = make(c, pixel ? 1 : h, pixel ? 1 : w, some_margin()),
					out = make(c, h, w, some_margin());
		int			mid = between(0, h);

		fill(&a);
		fill(&b);
		if (op == nn_div)
			for (int k = 0; k < c; k++)
				for (int y = 0; y < b.v.h; y++)
					for (int x = 0; x < b.v.w; x++)
						*cell(&b.v, k, y, x) += 2;
		K->binary(op, &a.v, &b.v, &out.v, act, 0, mid);
		K->binary(op, &a.v, &b.v, &out.v, act, mid, h);
		good = clean(&out);
		for (int k = 0; k < c; k++)
			for (int y = 0; y < h; y++)
				for (int x = 0; x < w; x++)
					good &= close_to(*cell(&out.v, k, y, x),
									 act_ref(binary_ref(op, *cell(&a.v, k, y, x),
														*cell(&b.v, k, pixel ? 0 : y, pixel ? 0 : x)), act), 0.1);
		/* in place */
		K->binary(op, &a.v, &b.v, &a.v, act, 0, h);
		good &= same(&a, &out);
		free(a.base);
		free(b.base);
		free(out.base);
	}
	ok(good, "%s: two tensors, activation", K->name);

	good = true;
	for (int i = 0; i < 36 && good; i++)
	{
		nn_act		act = random_act(i % (nn_act_last + 1));
		int			c = between(1, 40),
					h = between(1, 7),
					w = between(1, 9);
		tensor		in = make(c, h, w, some_margin()),
					out = make(c, h, w, some_margin());
		float	   *scale = i % 3 ? floats(c) : NULL,
				   *shift = i % 4 ? floats(c) : NULL;

		fill(&in);
		K->scale_shift(&in.v, scale, shift, &out.v, act, 0, h);
		good = clean(&out);
		for (int k = 0; k < c; k++)
			for (int y = 0; y < h; y++)
				for (int x = 0; x < w; x++)
					good &= close_to(*cell(&out.v, k, y, x),
									 act_ref((double) *cell(&in.v, k, y, x) * (scale ? scale[k] : 1) +
											 (shift ? shift[k] : 0), act), 0.1);
		free(in.base);
		free(out.base);
		free(scale);
		free(shift);
	}
	ok(good, "%s: scale and shift", K->name);

	good = true;
	for (int i = 0; i < 60 && good; i++)
	{
		size_t		n = between(1, 100);
		nn_act		act = random_act(i % (nn_act_last + 1));
		float	   *a = floats(n),
				   *b = floats(n),
				   *y = floats(n);
		double		tiny = act.kind == nn_act_gelu ? 0.1 : 1e-6;

		for (size_t k = 0; k < n; k++)
			a[k] *= i < 24 ? 12 : 1e-2f;
		K->activate(a, y, n, act);
		for (size_t k = 0; k < n; k++)
			good &= close_to(y[k], act_ref(a[k], act), tiny);
		K->binary_flat(i % 6, a, b, y, n, act);
		for (size_t k = 0; k < n; k++)
			if (i % 6 != nn_div)
				good &= close_to(y[k], act_ref(binary_ref(i % 6, a[k], b[k]), act), 0.1);
		free(a);
		free(b);
		free(y);
	}
	ok(good, "%s: flat arrays", K->name);

	{
		float		x[] = {INFINITY, -INFINITY, NAN, 0, 88.7f, -87.0f, 89, -200, 1e-30f};
		float		y[9];
		nn_act		e = {nn_act_exp, 0, 0},
					relu = {nn_act_relu, 0, 0},
					none = {nn_act_none, 0, 0},
					t = {nn_act_tanh, 0, 0},
					silu = {nn_act_silu, 0, 0};

		K->activate(x, y, 9, e);
		good = isinf(y[0]) && y[1] == 0 && isnan(y[2]) && y[3] == 1 && close_to(y[4], exp(88.7f), 0) &&
			close_to(y[5], exp(-87.0), 0) && isinf(y[6]) && y[7] == 0 && y[8] == 1;
		K->activate(x, y, 9, relu);
		good &= isinf(y[0]) && y[1] == 0 && isnan(y[2]);
		K->binary_flat(nn_add, x, x, y, 9, none);
		good &= isinf(y[0]) && isinf(y[1]) && isnan(y[2]);
		K->binary_flat(nn_max, x, x + 1, y, 3, none);
		good &= isinf(y[0]) && isnan(y[1]) && isnan(y[2]);
		K->activate(x, y, 9, t);
		good &= y[0] == 1 && y[1] == -1 && isnan(y[2]) && y[3] == 0 && y[8] == x[8];
		K->activate(x, y, 9, silu);
		good &= isinf(y[0]) && y[1] == 0 && isnan(y[2]) && y[3] == 0;
		ok(good, "%s: infinities and NaN", K->name);
	}

	good = true;
	for (int i = 0; i < 20 && good; i++)
	{
		int			c = between(1, 60),
					h = between(1, 7),
					w = between(1, 9);
		size_t		n = (size_t) c * h * w;
		float	   *chw = floats(n),
				   *back = malloc(n * sizeof(float));
		tensor		t = make(c, h, w, some_margin()),
					big = make(c + 30, (h + 1) / 2, (w + 2) / 3, some_margin());
		int			from = between(0, c - 1),
					count = between(1, c - from),
					to = between(0, c + 30 - count),
					mid = between(0, h);

		K->to_blocked(chw, &t.v, mid, h);
		K->to_blocked(chw, &t.v, 0, mid);
		good = clean(&t);
		for (size_t k = 0; k < n; k++)
			good &= *cell(&t.v, k / (h * w), k / w % h, k % w) == chw[k];
		K->from_blocked(&t.v, back, mid, h);
		K->from_blocked(&t.v, back, 0, mid);
		good &= memcmp(chw, back, n * sizeof(float)) == 0;
		fill(&big);
		K->copy_channels(&t.v, from, count, 2, 3, &big.v, to, 0, big.v.h);
		for (int k = 0; k < count; k++)
			for (int y = 0; y < big.v.h; y++)
				for (int x = 0; x < big.v.w; x++)
					good &= *cell(&big.v, to + k, y, x) == *cell(&t.v, from + k, 2 * y, 3 * x);
		free(chw);
		free(back);
		free(t.base);
		free(big.base);
	}
	ok(good, "%s: layouts and copies of channels", K->name);
}

/* ---- products, softmax ---- */

static void
test_gemm(void)
{
	bool		good = true;

	for (int i = 0; i < 60 && good; i++)
	{
		int			m = i % 5 == 0 ? 1 : between(1, 40),
					k = i % 7 == 0 ? between(1000, 1300) : between(1, 100),
					n = between(1, 100);
		bool		trans = i & 1;
		bool		use_res = i & 2;
		size_t		lda = k + between(0, 3),
					ldy = n + between(0, 3);
		float	   *a = floats(m * lda),
				   *b = floats((size_t) k * n),
				   *bias = i & 4 ? floats(n) : NULL,
				   *res = floats(m * ldy),
				   *y = floats(m * ldy),
				   *one = malloc(n * sizeof(float));
		nn_act		act = random_act(i % (nn_act_last + 1));
		size_t		size = nn_gemm_pack_size(K->isa, k, n);
		void	   *pack = aligned(size),
				   *scratch = aligned(K->gemm_scratch(m, k, n));
		nn_conv		as_conv = shape(k, n, 1, 1, 0, 0);

		for (size_t j = 0; j < m * ldy; j++)
			y[j] = 77;
		nn_gemm_pack(K->isa, k, n, b, trans ? 1 : n, trans ? k : 1, bias, pack);
		good &= nn_pack_check(pack, size, K->isa, nn_pack_gemm, &as_conv);
		K->gemm(pack, m, a, lda, use_res ? res : NULL, ldy, y, ldy, act, scratch);
		for (int r = 0; r < m; r++)
		{
			for (int c = 0; c < n; c++)
			{
				double		sum = bias ? bias[c] : 0,
							mass = 0.01;

				for (int j = 0; j < k; j++)
				{
					double		p = (double) a[r * lda + j] * b[trans ? (size_t) c * k + j : (size_t) j * n + c];

					sum += p;
					mass += fabs(p);
				}
				if (use_res)
					sum += res[r * ldy + c];
				sum = act_ref(sum, act);
				good &= close_to(y[r * ldy + c], sum, act_mass(sum, act, mass));
			}
			for (size_t c = n; c < ldy; c++)
				good &= y[r * ldy + c] == 77;
			/* a row alone gives the same bits */
			K->gemm(pack, 1, a + r * lda, lda, use_res ? res + r * ldy : NULL, ldy, one, ldy, act, scratch);
			good &= memcmp(one, y + r * ldy, n * sizeof(float)) == 0;
		}
		if (!good)
			printf("# m %d k %d n %d trans %d res %d act %d\n", m, k, n, trans, use_res, act.kind);
		free(a);
		free(b);
		free(bias);
		free(res);
		free(y);
		free(one);
		free(pack);
		free(scratch);
	}
	ok(good, "%s: products of matrices", K->name);

	good = true;
	for (int i = 0; i < 30; i++)
	{
		int			rows = between(1, 4),
					n = between(1, 70);
		float	   *x = floats(rows * n),
				   *y = malloc(rows * n * sizeof(float));

		for (int j = 0; j < rows * n; j++)
			x[j] *= 30;
		K->softmax(x, y, rows, n, i & 1);
		for (int r = 0; r < rows; r++)
		{
			double		top = -INFINITY,
						sum = 0;

			for (int c = 0; c < n; c++)
				top = fmax(top, x[r * n + c]);
			for (int c = 0; c < n; c++)
				sum += exp(x[r * n + c] - top);
			for (int c = 0; c < n; c++)
			{
				double		v = x[r * n + c] - top;

				good &= i & 1 ? close_to(y[r * n + c], v - log(sum), 1) : close_to(y[r * n + c], exp(v) / sum, 1e-30);
			}
		}
		K->softmax(x, x, rows, n, i & 1);
		good &= memcmp(x, y, rows * n * sizeof(float)) == 0;
		free(x);
		free(y);
	}
	ok(good, "%s: softmax", K->name);
}

int
main(void)
{
	ok(nn_kernels_for(nn_isa_auto) == nn_kernels_for(nn_isa_best()), "auto is the best set");
	for (nn_isa isa = nn_isa_portable; isa <= nn_isa_avx512; isa++)
	{
		K = nn_kernels_for(isa);
		if (K == NULL)
		{
			skip("instruction set absent");
			continue;
		}
		ok(K->isa == isa, "%s: its own table", K->name);
		test_conv();
		test_pools();
		test_elementwise();
		test_gemm();
	}
	return done_testing();
}
