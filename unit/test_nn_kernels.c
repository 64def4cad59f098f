/*
 * test_nn_kernels.c
 *	  Convolutions and products of every instruction set of this machine against
 *	  naive loops in double, on random shapes: odd sizes, channels that are not multiples of
 *	  16, pads, strides, dilation, groups, residuals, each activation, rows alone and together.
 *
 * Outputs and everything around interiors are poisoned with NaN first; borders
 * that a kernel may read are zeroed, so reading more shows as NaN, and writing
 * outside the interior as a changed poison.  Each case runs whole and in two
 * slices of lines, which must agree to the bit.
 */
#include "nn_kernels_ref.h"

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
		nn_conv_pack(&mr_env_malloc, K->isa, &cv, wt, bias, pack);
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

/* ---- products ---- */

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
		nn_gemm_pack(&mr_env_malloc, K->isa, k, n, b, trans ? 1 : n, trans ? k : 1, bias, pack);
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
}

static void
test(void)
{
	test_conv();
	test_gemm();
}

int
main(void)
{
	ok(nn_kernels_for(nn_isa_auto) == nn_kernels_for(nn_isa_best()), "auto is the best set");
	each_isa(test);
	return done_testing();
}
