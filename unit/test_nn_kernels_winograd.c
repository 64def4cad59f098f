/*
 * test_nn_kernels_winograd.c
 *	  Winograd's method of every instruction set of this machine against naive
 *	  sums in double: map sizes around multiples of the tile, channels from 1 to
 *	  512, no pads, equal and unequal ones, residuals, each activation.
 *
 * As in test_nn_kernels.c outputs and surroundings are poisoned with NaN, and
 * each case runs whole and in slices of whole rows of tiles, which must agree to
 * the bit.  Reference values of large cases are taken at random places.
 */
#include "nn_kernels_ref.h"

#define SAMPLES 400

static double
reference(const nn_conv *cv, const float *w, const float *bias, const nn_view *in, int o, int y, int x, double *mass)
{
	double		sum = bias ? bias[o] : 0;

	*mass = fabs(sum);
	for (int i = 0; i < cv->cin; i++)
		for (int t = 0; t < 9; t++)
		{
			int			iy = y - cv->pt + t / 3,
						ix = x - cv->pl + t % 3;
			double		p;

			if (iy < 0 || iy >= in->h || ix < 0 || ix >= in->w)
				continue;
			p = (double) w[((size_t) o * cv->cin + i) * 9 + t] * *cell(in, i, iy, ix);
			sum += p;
			*mass += fabs(p);
		}
	return sum;
}

/* pb, pr: the pads below and to the right, which fix the size of the output. */
static bool
winograd_case(nn_conv cv, int h, int w, int pb, int pr, bool use_res)
{
	int			oh = h + cv.pt + pb - 2,
				ow = w + cv.pl + pr - 2;
	tensor		in = make(cv.cin, h, w, nn_conv_margin(&cv, h, w, oh, ow)),
				res = make(cv.cout, oh, ow, some_margin()),
				out,
				cut;
	nn_margin	m = between(0, 1) ? no_margin() : some_margin();
	float	   *wt = floats((size_t) cv.cout * cv.cin * 9),
			   *bias = between(0, 3) ? floats(cv.cout) : NULL;
	size_t		size = nn_winograd_pack_size(K->isa, &cv);
	void	   *pack = aligned(size),
			   *scratch = aligned(K->winograd_scratch(&cv, oh, ow));
	const nn_view *r = use_res ? &res.v : NULL;
	bool		good;
	int			all = cv.cout * oh * ow;

	fill(&in);
	fill(&res);
	out = make(cv.cout, oh, ow, m);
	cut = make(cv.cout, oh, ow, m);
	memset(pack, 0xff, size);
	memset(scratch, 0xff, K->winograd_scratch(&cv, oh, ow));
	nn_winograd_pack(&mr_env_malloc, K->isa, &cv, wt, bias, pack);
	good = nn_winograd_can(&cv) && nn_pack_check(pack, size, K->isa, nn_pack_winograd, &cv) &&
		!nn_pack_check(pack, size - 4, K->isa, nn_pack_winograd, &cv) &&
		!nn_pack_check(pack, size, K->isa, nn_pack_conv, &cv);
	K->winograd(&cv, pack, &in.v, r, &out.v, 0, oh, scratch);
	for (int y0 = 0, y1; y0 < oh; y0 = y1)
	{
		y1 = y0 + (cv.form == nn_conv_winograd2 ? 2 : 4) * between(1, 3);
		y1 = y1 < oh ? y1 : oh;
		K->winograd(&cv, pack, &in.v, r, &cut.v, y0, y1, scratch);
	}
	good = good && clean(&out) && clean(&cut) && same(&out, &cut);
	for (int i = 0; i < (all < SAMPLES ? all : SAMPLES); i++)
	{
		int			at = all < SAMPLES ? i : between(0, all - 1);
		int			o = at / (oh * ow),
					y = at / ow % oh,
					x = at % ow;
		double		mass,
					want = reference(&cv, wt, bias, &in.v, o, y, x, &mass);

		if (use_res)
			want += *cell(&res.v, o, y, x);
		want = act_ref(want, cv.act);
		/* the tolerance of the direct kernels, one part in 100,000 of what was added up */
		if (!close_to(*cell(&out.v, o, y, x), want, act_mass(want, cv.act, mass + 1e-3)))
			good = false;
	}
	if (!good)
		printf("# form %d cin %d cout %d in %dx%d p %d,%d,%d,%d act %d res %d\n", cv.form, cv.cin, cv.cout, h, w, cv.pt, cv.pl, pb, pr,
			   cv.act.kind, use_res);
	free(in.base);
	free(res.base);
	free(out.base);
	free(cut.base);
	free(wt);
	free(bias);
	free(pack);
	free(scratch);
	return good;
}

static nn_conv
shape(int cin, int cout, int pad, int act)
{
	nn_conv		cv = {.cin = cin, .cout = cout, .groups = 1, .kh = 3, .kw = 3, .sh = 1, .sw = 1,
		.dh = 1, .dw = 1, .pt = pad, .pl = pad, .form = nn_conv_winograd4, .act = random_act(act)};

	return cv;
}

static void
test(void)
{
	static const int sizes[] = {14, 15, 28, 29, 56};
	static const int channels[] = {64, 128, 256, 512};
	bool		good = true;

	for (int i = 0; i < 5; i++)
		for (int c = 0; c < 4; c++)
		{
			/* larger maps have fewer channels, as in networks: the tests stay quick */
			int			n = sizes[i] > 29 ? 64 : sizes[i] > 15 ? channels[c] / 4 : channels[c];

			good &= winograd_case(shape(n, sizes[i] > 29 ? 64 : 64 + 16 * c, 1, nn_act_relu), sizes[i], sizes[i], 1, 1, c & 1);
		}
	ok(good, "%s: Winograd at the sizes of common networks", K->name);

	good = true;
	for (int n = 7; n <= 14; n += 7)
		for (int c = 0; c < 4; c++)
		{
			nn_conv		cv = shape(channels[c], 80, 1, nn_act_relu);

			cv.form = nn_conv_winograd2;
			good &= winograd_case(cv, n, n, 1, 1, c & 1);
		}
	ok(good, "%s: Winograd of small tiles", K->name);

	good = true;
	for (int i = 0; i < 100 && good; i++)
	{
		nn_conv		cv = shape(between(1, 70), between(1, 70), 0, i % (nn_act_last + 1));

		cv.form = between(0, 1) ? nn_conv_winograd2 : nn_conv_winograd4;
		cv.pt = between(0, 2);
		cv.pl = between(0, 2);
		good = winograd_case(cv, between(3, 19), between(3, 33), between(0, 2), between(0, 2), i & 1);
	}
	ok(good, "%s: Winograd at random shapes, pads and activations", K->name);

	good = winograd_case(shape(1100, 20, 1, nn_act_none), 6, 7, 1, 1, false);
	good &= winograd_case(shape(16, 600, 1, nn_act_silu), 6, 7, 1, 1, true);
	ok(good, "%s: Winograd with several chunks of channels", K->name);
}

int
main(void)
{
	nn_conv		cv = shape(16, 16, 1, nn_act_none);

	ok(nn_winograd_can(&cv), "3x3 of stride 1 is one for Winograd");
	cv.form = nn_conv_blocked;
	ok(!nn_winograd_can(&cv), "the direct form is not");
	cv.form = nn_conv_winograd2;
	cv.sw = 2;
	ok(!nn_winograd_can(&cv), "stride 2 is not");
	each_isa(test);
	return done_testing();
}
