/*
 * test_nn_low_conv.c
 *	  Convolutions and products in int8 and bfloat16, of every instruction set of
 *	  this machine, against naive loops in double: odd sizes, all channel tails,
 *	  strides, groups, zero points, residuals, saturation, each activation.
 *
 * uint8 results of different sets must be the same bytes (one quantum apart
 * where an activation has an exp), and lines in slices the same as together.
 */
#include "nn_low_ref.h"

typedef struct problem
{
	nn_low_kind kind;
	nn_conv		cv;
	int			h,
				w;
	int			res;			/* 0: none, 1: native, 2: float32 */
	bool		wide;			/* float32 out */
	bool		depthwise;
	bool		raw;			/* planar input is native, else float32 */
} problem;

/* Weights of a layer, as given and as numbers. */
typedef struct weights
{
	nn_low_weights w;
	double	   *v;				/* without scale */
	float	   *f,
			   *scale,
			   *bias;
	int8_t	   *q;
	int32_t    *bias_q;
} weights;

static weights
make_weights(nn_low_kind kind, size_t n, int couts, int depth)
{
	weights		t = {{NULL, NULL, NULL, NULL, NULL}, malloc(n * sizeof(double)), floats(n), floats(couts),
	floats(couts), malloc(n), malloc(couts * sizeof(int32_t))};

	for (size_t i = 0; i < n; i++)
	{
		t.q[i] = (int8_t) between(-128, 127);
		t.v[i] = kind == nn_low_u8 ? t.q[i] : nn_from_bf16(nn_to_bf16(t.f[i]));
	}
	for (int o = 0; o < couts; o++)
	{
		t.scale[o] = (0.5f + fabsf(t.scale[o])) / (100 * sqrtf((float) depth));
		t.bias_q[o] = between(-20000, 20000);
	}
	t.w.f = kind == nn_low_u8 ? NULL : t.f;
	t.w.q = t.q;
	t.w.scale = t.scale;
	t.w.bias_q = kind == nn_low_u8 && between(0, 2) ? t.bias_q : NULL;
	t.w.bias = between(0, 1) ? t.bias : NULL;
	return t;
}

static void
free_weights(weights *t)
{
	free(t->v);
	free(t->f);
	free(t->scale);
	free(t->bias);
	free(t->q);
	free(t->bias_q);
}

/* What output (o, y, x) should be, and the size of what adds up to it. */
static double
expected(const problem *p, const weights *t, const low *in, const low *res, int o, int y, int x, double *mass)
{
	const nn_conv *cv = &p->cv;
	int			g_in = cv->cin / cv->groups,
				g = o / (cv->cout / cv->groups);
	double		unit = p->kind == nn_low_u8 ? t->scale[o] : 1;
	double		sum = t->w.bias ? t->bias[o] : 0;

	if (t->w.bias_q)
		sum += (double) t->bias_q[o] * in->l.q.scale * t->scale[o];
	*mass = fabs(sum);
	for (int i = 0; i < g_in; i++)
		for (int ky = 0; ky < cv->kh; ky++)
			for (int kx = 0; kx < cv->kw; kx++)
			{
				int			iy = y * cv->sh - cv->pt + ky * cv->dh,
							ix = x * cv->sw - cv->pl + kx * cv->dw;
				double		v;

				if (iy < 0 || iy >= p->h || ix < 0 || ix >= p->w)
					continue;
				v = read_elem(low_cell(&in->l, g * g_in + i, iy, ix), in->l.q) * unit *
					t->v[((size_t) o * g_in + i) * cv->kh * cv->kw + ky * cv->kw + kx];
				sum += v;
				*mass += fabs(v);
			}
	if (p->res)
	{
		double		r = read_elem(low_cell(&res->l, o, y, x), res->l.q);

		sum += r;
		*mass += fabs(r);
	}
	*mass = act_mass(act_ref(sum, cv->act), cv->act, *mass + 0.01);
	return act_ref(sum, cv->act);
}

static void
run(const nn_low_kernels *k, const problem *p, const void *pack, const low *in, const nn_low_rows *plain,
	const low *res, low *out, int y0, int y1, void *scratch)
{
	const nn_low_view *r = p->res ? &res->l : NULL;

	if (p->depthwise)
		k->depthwise(&p->cv, pack, &in->l, r, &out->l, y0, y1);
	else if (plain)
		k->conv_planar(&p->cv, pack, plain, p->h, p->w, r, &out->l, y0, y1, scratch);
	else
		k->conv(&p->cv, pack, &in->l, r, &out->l, y0, y1, scratch);
}

static bool
conv_case(problem p)
{
	nn_conv    *cv = &p.cv;
	nn_elem		native = elem_of(p.kind);
	int			oh = (p.h + cv->pt + between(0, cv->pt) - ((cv->kh - 1) * cv->dh + 1)) / cv->sh + 1,
				ow = (p.w + cv->pl + between(0, cv->pl) - ((cv->kw - 1) * cv->dw + 1)) / cv->sw + 1;
	int			g_in = cv->cin / cv->groups;
	nn_quant	oq = some_quant(p.wide ? nn_elem_f32 : native);
	nn_margin	around = between(0, 1) ? no_margin() : some_margin();
	const nn_low_kernels *k[8];
	int			tables = low_tables(p.kind, k);
	low			in,
				res,
				first = {0};
	weights		t;
	nn_low_rows plain = {0};
	bool		good = true;

	if (p.h + cv->pt < (cv->kh - 1) * cv->dh + 1 || p.w + cv->pl < (cv->kw - 1) * cv->dw + 1)
		return true;
	in = low_make(cv->cin, p.h, p.w, nn_conv_margin(cv, p.h, p.w, oh, ow), some_quant(native));
	low_fill(&in);
	res = low_make(cv->cout, oh, ow, some_margin(), some_quant(p.res == 2 ? nn_elem_f32 : native));
	low_fill(&res);
	t = make_weights(p.kind, (size_t) cv->cout * g_in * cv->kh * cv->kw, cv->cout, g_in * cv->kh * cv->kw);
	if (cv->form == nn_conv_planar)
	{
		plain.q = in.l.q;
		if (!p.raw)
			plain.q.elem = nn_elem_f32;
		plain.data = malloc((size_t) cv->cin * p.h * p.w * nn_elem_bytes(plain.q.elem));
		for (int i = 0; i < cv->cin * p.h * p.w; i++)
		{
			void	   *q = low_cell(&in.l, i / (p.h * p.w), i / p.w % p.h, i % p.w);
			float		f = (float) read_elem(q, in.l.q);

			memcpy((char *) plain.data + i * (size_t) nn_elem_bytes(plain.q.elem), p.raw ? q : &f,
				   nn_elem_bytes(plain.q.elem));
		}
	}
	for (int i = 0; i < tables && good; i++)
	{
		size_t		size = p.depthwise ? nn_low_depthwise_pack_size(k[i]->isa, p.kind, cv) :
			nn_low_conv_pack_size(k[i]->isa, p.kind, cv);
		void	   *pack = aligned(size),
				   *scratch = aligned(p.depthwise ? 0 : k[i]->conv_scratch(cv, p.h, p.w, oh, ow));
		nn_pack_kind what = p.depthwise ? nn_pack_depthwise : nn_pack_conv;
		low			out = low_make(cv->cout, oh, ow, around, oq),
					cut = low_make(cv->cout, oh, ow, around, oq);
		int			mid = between(0, oh);

		memset(pack, 0xff, size);
		if (p.depthwise)
			nn_low_depthwise_pack(k[i]->isa, p.kind, cv, &t.w, pack);
		else
			nn_low_conv_pack(&mr_env_malloc, k[i]->isa, p.kind, cv, &t.w, pack);
		good &= nn_low_pack_check(pack, size, k[i]->isa, p.kind, what, cv) &&
			!nn_low_pack_check(pack, size - 1, k[i]->isa, p.kind, what, cv);
		run(k[i], &p, pack, &in, plain.data ? &plain : NULL, &res, &out, 0, oh, scratch);
		run(k[i], &p, pack, &in, plain.data ? &plain : NULL, &res, &cut, mid, oh, scratch);
		run(k[i], &p, pack, &in, plain.data ? &plain : NULL, &res, &cut, 0, mid, scratch);
		good &= low_clean(&out) && low_clean(&cut) && low_apart(&out, &cut) == 0;
		for (int o = 0; o < cv->cout; o++)
			for (int y = 0; y < oh; y++)
				for (int x = 0; x < ow; x++)
				{
					double		mass,
								want = expected(&p, &t, &in, &res, o, y, x, &mass);

					good &= elem_is(low_cell(&out.l, o, y, x), oq, want, mass);
				}
		if (i > 0 && p.kind == nn_low_u8 && !p.wide)
			good &= low_apart(&out, &first) <= (cv->act.kind >= nn_act_sigmoid);
		if (!good)
			printf("# %s: cin %d cout %d groups %d k %dx%d s %d,%d d %d,%d p %d,%d in %dx%d act %d res %d wide %d dw %d form %d\n",
				   k[i]->name, cv->cin, cv->cout, cv->groups, cv->kh, cv->kw, cv->sh, cv->sw, cv->dh, cv->dw,
				   cv->pt, cv->pl, p.h, p.w, cv->act.kind, p.res, p.wide, p.depthwise, cv->form);
		if (i == 0)
			first = out;
		else
			low_free(&out);
		low_free(&cut);
		free(pack);
		free(scratch);
	}
	if (tables)
		low_free(&first);
	low_free(&in);
	low_free(&res);
	free_weights(&t);
	free(plain.data);
	return good;
}

static problem
shape(nn_low_kind kind, int cin, int cout, int k, int s, int p, int act, int h, int w)
{
	problem		r = {.kind = kind, .h = h, .w = w, .res = between(0, 2), .wide = between(0, 4) == 0, .raw = between(0, 1)};

	r.cv = (nn_conv) {.cin = cin, .cout = cout, .groups = 1, .kh = k, .kw = k, .sh = s, .sw = s,
		.dh = 1, .dw = 1, .pt = p, .pl = p, .form = nn_conv_blocked, .act = random_act(act)};
	if (kind == nn_low_w16)
		r.wide = false;
	return r;
}

static const int tails[] = {1, 3, 15, 16, 17, 24, 33, 63, 64, 65, 96, 144};

static void
test_conv(nn_low_kind kind)
{
	bool		good = true;

	for (int i = 0; i < 12 && good; i++)
		for (int j = 0; j < 12 && good; j++)
			good = conv_case(shape(kind, tails[i], tails[j], 1, 1, 0, (i + j) % 3, 1, between(1, 30)));
	ok(good, "%s: 1x1 convolutions, all channel tails", kind_names[kind]);

	good = true;
	for (int i = 0; i < 12 && good; i++)
		good = conv_case(shape(kind, tails[i], tails[11 - i], 3, 1 + i % 2, 1, i % 3, between(5, 9), between(3, 29)));
	for (int i = 0; i < 6 && good; i++)
		good = conv_case(shape(kind, 64, 64, 3, 1 + i % 2, 1, 1, 8, i < 3 ? 7 : 14));
	ok(good, "%s: 3x3 convolutions", kind_names[kind]);

	good = true;
	for (int i = 0; i < 60 && good; i++)
	{
		problem		p = shape(kind, between(1, 150), between(1, 70), 1, 1, 0, i % (nn_act_last + 1),
							  between(1, 9), between(1, 20));

		p.cv.kh = between(1, 4);
		p.cv.kw = between(1, 4);
		p.cv.sh = between(1, 3);
		p.cv.sw = between(1, 3);
		p.cv.dh = between(1, 2);
		p.cv.dw = between(1, 2);
		p.cv.pt = between(0, 2);
		p.cv.pl = between(0, 2);
		good = conv_case(p);
	}
	ok(good, "%s: convolutions of random shape", kind_names[kind]);

	good = true;
	for (int i = 0; i < 20 && good; i++)
	{
		int			g = between(2, 6);
		problem		p = shape(kind, g * between(1, 40), g * between(1, 20), between(1, 3), between(1, 2), 1, i % 4, between(3, 6),
							  between(3, 9));

		p.cv.groups = g;
		good = conv_case(p);
	}
	ok(good, "%s: grouped convolutions", kind_names[kind]);

	good = true;
	for (int i = 0; i < 30 && good; i++)
	{
		static const int cin[] = {3, 3, 3, 1, 4, 16, 2};
		problem		p = shape(kind, cin[i % 7], between(1, 70), between(1, 7), between(1, 3), between(0, 3), i % 3,
							  between(7, 12), between(7, 36));

		p.cv.form = nn_conv_planar;
		p.cv.dh = between(1, 2);
		p.cv.dw = i % 3 ? 1 : 2;
		good = conv_case(p);
	}
	ok(good, "%s: stems from planar input", kind_names[kind]);

	good = true;
	for (int i = 0; i < 40 && good && kind != nn_low_w16; i++)
	{
		int			c = tails[i % 12];
		problem		p = shape(kind, c, c, i % 3 ? 3 : 5, between(1, 2), between(0, 2), i % (nn_act_last + 1),
							  between(3, 9), between(3, 20));

		p.cv.groups = c;
		p.depthwise = true;
		good = conv_case(p);
	}
	ok(good, "%s: depthwise convolutions", kind_names[kind]);
}

/* ---- products ---- */

static nn_low_rows
make_rows(int m, int n, nn_quant q)
{
	nn_low_rows r = {NULL, (size_t) n + between(0, 3), q};
	int			size = nn_elem_bytes(q.elem);

	r.data = malloc(m * r.ld * size);
	for (size_t i = 0; i < m * r.ld; i++)
		random_elem((char *) r.data + i * size, q);
	return r;
}

static void *
row_at(const nn_low_rows *r, int i, int j)
{
	return (char *) r->data + (i * r->ld + j) * nn_elem_bytes(r->q.elem);
}

static bool
gemm_case(nn_low_kind kind, int m, int k, int n, int act)
{
	nn_elem		native = elem_of(kind);
	bool		trans = between(0, 1),
				use_res = between(0, 1);
	bool		from_float = between(0, 1);
	nn_quant	aq = some_quant(native);
	nn_act		a_act = random_act(act);
	weights		t = make_weights(kind, (size_t) k * n, n, k);
	nn_low_rows a,
				res = make_rows(m, n, some_quant(between(0, 1) ? native : nn_elem_f32)),
				y = make_rows(m, n, some_quant(between(0, 1) ? native : nn_elem_f32));
	const nn_low_kernels *tab[8];
	int			tables = low_tables(kind, tab);
	nn_conv		cv = {.cin = k, .cout = n, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1, .dh = 1, .dw = 1};
	bool		good = true;
	int			o_size = nn_elem_bytes(y.q.elem);
	char	   *before = malloc(m * y.ld * o_size),
			   *first = malloc(m * y.ld * o_size);

	if (from_float)
		aq.elem = nn_elem_f32;
	a = make_rows(m, k, aq);
	/* float32 rows: what they are after rounding */
	if (from_float && kind == nn_low_u8)
		for (size_t i = 0; i < m * a.ld; i++)
		{
			int			q = between(0, 255) - aq.zero;

			((float *) a.data)[i] = (float) q * aq.scale;
		}
	if (from_float && kind == nn_low_bf16)
		for (size_t i = 0; i < m * a.ld; i++)
			((float *) a.data)[i] = nn_from_bf16(nn_to_bf16(((float *) a.data)[i]));
	memcpy(before, y.data, m * y.ld * o_size);
	for (int i = 0; i < tables && good; i++)
	{
		size_t		size = nn_low_gemm_pack_size(tab[i]->isa, kind, k, n);
		void	   *pack = aligned(size),
				   *scratch = aligned(tab[i]->gemm_scratch(m, k, n));

		memset(pack, 0xff, size);
		nn_low_gemm_pack(&mr_env_malloc, tab[i]->isa, kind, k, n, &t.w, trans ? 1 : n, trans ? k : 1, pack);
		good &= nn_low_pack_check(pack, size, tab[i]->isa, kind, nn_pack_gemm, &cv);
		memcpy(y.data, before, m * y.ld * o_size);
		tab[i]->gemm(pack, m, &a, use_res ? &res : NULL, &y, a_act, scratch);
		for (int r = 0; r < m; r++)
			for (int c = 0; c < (int) y.ld; c++)
			{
				double		sum = 0,
							mass = 0.01,
							unit = kind == nn_low_u8 ? t.scale[c < n ? c : 0] : 1;

				if (c >= n)
				{
					good &= memcmp(row_at(&y, r, c), before + (r * y.ld + c) * o_size, o_size) == 0;
					continue;
				}
				if (t.w.bias)
					sum += t.bias[c];
				if (t.w.bias_q)
					sum += (double) t.bias_q[c] * aq.scale * t.scale[c];
				for (int j = 0; j < k; j++)
				{
					double		v = read_elem(row_at(&a, r, j), a.q) * unit *
						t.v[trans ? (size_t) c * k + j : (size_t) j * n + c];

					sum += v;
					mass += fabs(v);
				}
				if (use_res)
					sum += read_elem(row_at(&res, r, c), res.q);
				sum = act_ref(sum, a_act);
				good &= elem_is(row_at(&y, r, c), y.q, sum, act_mass(sum, a_act, mass));
			}
		if (i == 0)
			memcpy(first, y.data, m * y.ld * o_size);
		else if (kind == nn_low_u8 && y.q.elem == nn_elem_u8)
			for (size_t j = 0; j < m * y.ld; j++)
				good &= abs(((uint8_t *) first)[j] - ((uint8_t *) y.data)[j]) <= (a_act.kind >= nn_act_sigmoid);
		if (!good)
			printf("# %s: m %d k %d n %d trans %d res %d (%d) a %d y %d act %d\n", tab[i]->name, m, k, n, trans,
				   use_res, res.q.elem, aq.elem, y.q.elem, act);
		free(pack);
		free(scratch);
	}
	free_weights(&t);
	free(a.data);
	free(res.data);
	free(y.data);
	free(before);
	free(first);
	return good;
}

static void
test_gemm(nn_low_kind kind)
{
	bool		good = true;

	for (int i = 0; i < 60 && good; i++)
		good = gemm_case(kind, i % 5 == 0 ? 1 : between(1, 40), i % 7 == 0 ? between(700, 800) : tails[i % 12],
						 i % 2 ? tails[(i / 2) % 12] : between(1, 100), i % (nn_act_last + 1));
	ok(good, "%s: products of matrices", kind_names[kind]);
}

/* Sums at the ends of their range, quanta beyond theirs. */
static void
test_saturation(void)
{
	const nn_low_kernels *k[8];
	int			n = low_tables(nn_low_u8, k);
	enum {K = 512, N = 32};
	int8_t		w[K * N];
	float		scale[N];
	uint8_t		a[K],
				y[N];
	bool		good = true;

	memset(a, 255, sizeof(a));
	for (int i = 0; i < K * N; i++)
		w[i] = i % N < N / 2 ? 127 : -128;
	for (int i = 0; i < N; i++)
		scale[i] = 1;
	for (int i = 0; i < n; i++)
	{
		nn_low_weights lw = {NULL, w, scale, NULL, NULL};
		void	   *pack = aligned(nn_low_gemm_pack_size(k[i]->isa, nn_low_u8, K, N)),
				   *scratch = aligned(k[i]->gemm_scratch(1, K, N));
		float		wide[N];
		nn_low_rows ra = {a, K, {nn_elem_u8, 1, 0}},
					ry = {y, N, {nn_elem_u8, 1, 100}},
					rw = {wide, N, {nn_elem_f32, 1, 0}};

		nn_low_gemm_pack(&mr_env_malloc, k[i]->isa, nn_low_u8, K, N, &lw, N, 1, pack);
		k[i]->gemm(pack, 1, &ra, NULL, &ry, random_act(nn_act_none), scratch);
		k[i]->gemm(pack, 1, &ra, NULL, &rw, random_act(nn_act_none), scratch);
		for (int j = 0; j < N; j++)
			good &= y[j] == (j < N / 2 ? 255 : 0) && wide[j] == 255.0f * K * (j < N / 2 ? 127 : -128);
		free(pack);
		free(scratch);
	}
	ok(good, "u8: no saturation of sums, and that of quanta");
}

/* ---- Winograd's method with weights in bfloat16 ---- */

/* Beside the float32 kernel on the same numbers: apart by what rounding transformed weights (in bf16 inputs too) to
 * 8 bits does.  A wrong tile, lane or tap is apart by as much as there is. */
static bool
winograd_case(const nn_low_kernels *k, nn_conv cv, int h, int w, bool use_res)
{
	const nn_kernels *plain = nn_kernels_for(nn_isa_f32(k->isa));
	nn_quant	q = {k->elem, 1, 0},
				f = {nn_elem_f32, 1, 0};
	nn_margin	edge = nn_conv_margin(&cv, h, w, h, w),
				none = {0};
	low			in = low_make(cv.cin, h, w, edge, q),
				wide = low_make(cv.cin, h, w, edge, f),
				res = low_make(cv.cout, h, w, none, q),
				res_wide = low_make(cv.cout, h, w, none, f),
				out = low_make(cv.cout, h, w, some_margin(), q),
				want = low_make(cv.cout, h, w, none, f);
	size_t		size = nn_low_winograd_pack_size(k->isa, k->kind, &cv);
	void	   *pack = aligned(size),
			   *exact = aligned(nn_winograd_pack_size(plain->isa, &cv)),
			   *scratch = aligned(k->winograd_scratch(&cv, h, w));
	float	   *weights = floats((size_t) cv.cout * cv.cin * 9),
			   *bias = floats(cv.cout);
	nn_low_weights lw = {.f = weights, .bias = bias};
	int			tile = cv.form == nn_conv_winograd2 ? 2 : 4;
	double		power = 0,
				off = 0,
				most = 0;
	bool		good;

	low_fill(&in);
	low_fill(&wide);
	low_fill(&res);
	low_fill(&res_wide);
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
		{
			for (int c = 0; c < cv.cin; c++)
				*(float *) low_cell(&wide.l, c, y, x) = (float) read_elem(low_cell(&in.l, c, y, x), q);
			for (int c = 0; c < cv.cout; c++)
				*(float *) low_cell(&res_wide.l, c, y, x) = (float) read_elem(low_cell(&res.l, c, y, x), q);
		}
	memset(pack, 0xff, size);
	nn_low_winograd_pack(&mr_env_malloc, k->isa, k->kind, &cv, &lw, pack);
	nn_winograd_pack(&mr_env_malloc, plain->isa, &cv, weights, bias, exact);
	plain->winograd(&cv, exact, &wide.l.v, use_res ? &res_wide.l.v : NULL, &want.l.v, 0, h, scratch);
	for (int y0 = 0, y1; y0 < h; y0 = y1)
	{
		y1 = y0 + tile * between(1, 3);
		y1 = y1 < h ? y1 : h;
		k->winograd(&cv, pack, &in.l, use_res ? &res.l : NULL, &out.l, y0, y1, scratch);
	}
	good = low_clean(&out) && nn_low_pack_check(pack, size, k->isa, k->kind, nn_pack_winograd, &cv) &&
		!nn_low_pack_check(pack, size - 4, k->isa, k->kind, nn_pack_winograd, &cv);
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
			for (int c = 0; c < cv.cout; c++)
			{
				double		v = *(float *) low_cell(&want.l, c, y, x),
							d = fabs(v - read_elem(low_cell(&out.l, c, y, x), q));

				power += v * v;
				off += d * d;
				most = fmax(most, d);
			}
	off = sqrt(off / power);
	most /= sqrt(power / ((double) h * w * cv.cout));
	good = good && off < 0.03 && most < 0.5;
	if (!good)
		printf("# form %d cin %d cout %d %dx%d act %d res %d: off %.4f, at most %.4f\n", cv.form, cv.cin, cv.cout, h, w,
			   cv.act.kind, use_res, off, most);
	low_free(&in);
	low_free(&wide);
	low_free(&res);
	low_free(&res_wide);
	low_free(&out);
	low_free(&want);
	free(pack);
	free(exact);
	free(scratch);
	free(weights);
	free(bias);
	return good;
}

static void
test_winograd(nn_low_kind kind)
{
	static const int acts[] = {nn_act_none, nn_act_silu, nn_act_relu, nn_act_hardswish};
	const int	n_acts = kind == nn_low_w16 ? 4 : 3;
	const nn_low_kernels *tab[8];
	int			tables = low_tables(kind, tab);

	for (int t = 0; t < tables; t++)
	{
		bool		good = true;

		if (tab[t]->winograd == NULL)
			continue;
		for (int i = 0; i < 48 && good; i++)
		{
			nn_conv		cv = {.cin = tails[between(2, 11)], .cout = tails[between(2, 11)], .groups = 1, .kh = 3, .kw = 3, .sh = 1,
			.sw = 1, .dh = 1, .dw = 1, .pt = 1, .pl = 1, .form = i % 4 ? nn_conv_winograd4 : nn_conv_winograd2,
			.act = random_act(acts[i % n_acts])};

			good = winograd_case(tab[t], cv, between(2, 21), between(2, 21), i & 1);
		}
		ok(good, "%s: Winograd's method, with weights in bfloat16", tab[t]->name);
	}
}

int
main(void)
{
	for (nn_low_kind kind = nn_low_u8; kind <= nn_low_w16; kind++)
	{
		const nn_low_kernels *k[8];

		if (low_tables(kind, k) == 0)
		{
			skip("no kernels of this kind for this CPU");
			continue;
		}
		test_conv(kind);
		test_gemm(kind);
		if (kind != nn_low_u8)
			test_winograd(kind);
	}
	if (low_tables(nn_low_u8, (const nn_low_kernels *[8]) {NULL}))
		test_saturation();
	return done_testing();
}
