/*
 * test_nn_mbconv.c
 *	  Blocks of mobile networks in one go against the same layers one by one, for
 *	  every instruction set: the same bits, whole and in slices of lines, and
 *	  nothing touched outside.  Scratch is as large as asked and full of NaN.
 */
#include "nn_kernels_ref.h"

static nn_conv
pointwise(int cin, int cout, int act)
{
	nn_conv		cv = {.cin = cin, .cout = cout, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1, .dh = 1, .dw = 1,
		.act = random_act(act)};

	return cv;
}

static void *
random_pack(const nn_conv *cv)
{
	bool		depthwise = cv->groups > 1;
	float	   *w = floats((size_t) cv->cout * (cv->cin / cv->groups) * cv->kh * cv->kw);
	float	   *bias = floats(cv->cout);
	void	   *pack = aligned(depthwise ? nn_depthwise_pack_size(K->isa, cv) : nn_conv_pack_size(K->isa, cv));

	if (depthwise)
		nn_depthwise_pack(K->isa, cv, w, bias, pack);
	else
		nn_conv_pack(&mr_env_malloc, K->isa, cv, w, bias, pack);
	free(w);
	free(bias);
	return pack;
}

static void *
poisoned(size_t bytes)
{
	void	   *p = aligned(bytes);

	memset(p, 0xff, bytes);
	return p;
}

static bool
block_case(int cin, int wide, int cout, nn_conv dw, int h, int w, bool use_res)
{
	nn_mbconv	mb = {.dw = dw};
	int			oh,
				ow,
				mid;
	nn_margin	none = no_margin(),
				border;
	tensor		in,
				expanded,
				deep,
				res,
				want,
				got,
				cut;
	nn_view    *x;
	void	   *packs[3] = {NULL, NULL, NULL};
	void	   *scratch,
			   *own;
	const nn_view *r;
	bool		good;

	mb.dw.pt = between(0, dw.kh - 1);
	mb.dw.pl = between(0, dw.kw - 1);
	oh = (h + mb.dw.pt + between(0, dw.kh - 1) - ((dw.kh - 1) * dw.dh + 1)) / dw.sh + 1;
	ow = (w + mb.dw.pl + between(0, dw.kw - 1) - ((dw.kw - 1) * dw.dw + 1)) / dw.sw + 1;
	if (h + mb.dw.pt < (dw.kh - 1) * dw.dh + 1 || w + mb.dw.pl < (dw.kw - 1) * dw.dw + 1)
		return true;
	mb.dw.cin = mb.dw.cout = mb.dw.groups = wide;
	if (cin)
	{
		mb.expand = pointwise(cin, wide, between(0, nn_act_exp - 1));	/* exp of exp: NaNs */
		packs[0] = random_pack(&mb.expand);
	}
	packs[1] = random_pack(&mb.dw);
	if (cout)
	{
		mb.project = pointwise(wide, cout, between(0, 3) ? nn_act_none : between(0, nn_act_last));
		packs[2] = random_pack(&mb.project);
	}
	border = nn_conv_margin(&mb.dw, h, w, oh, ow);
	in = make(cin ? cin : wide, h, w, cin ? none : border);
	fill(&in);
	expanded = make(wide, h, w, border);
	fill(&expanded);
	deep = make(wide, oh, ow, none);
	res = make(cout ? cout : 1, oh, ow, some_margin());
	fill(&res);
	r = use_res && cout ? &res.v : NULL;
	want = make(cout ? cout : wide, oh, ow, none);
	got = make(cout ? cout : wide, oh, ow, some_margin());
	cut = make(cout ? cout : wide, oh, ow, some_margin());

	x = &in.v;
	own = aligned(cin ? K->conv_scratch(&mb.expand, h, w, h, w) : 0);
	if (cin)
	{
		K->conv(&mb.expand, packs[0], &in.v, NULL, &expanded.v, 0, h, own);
		x = &expanded.v;
	}
	K->depthwise(&mb.dw, packs[1], x, NULL, cout ? &deep.v : &want.v, 0, oh);
	if (cout)
		K->conv(&mb.project, packs[2], &deep.v, r, &want.v, 0, oh, own);

	scratch = poisoned(K->mbconv_scratch(&mb, h, w, oh, ow));
	K->mbconv(&mb, (const void *const *) packs, &in.v, r, &got.v, 0, oh, scratch);
	mid = between(0, oh);
	K->mbconv(&mb, (const void *const *) packs, &in.v, r, &cut.v, mid, oh, scratch);
	K->mbconv(&mb, (const void *const *) packs, &in.v, r, &cut.v, 0, mid, scratch);
	good = clean(&got) && clean(&cut) && same(&got, &want) && same(&cut, &want);
	if (!good)
		printf("# %d -> %d -> %d k %dx%d s %d,%d d %d,%d p %d,%d in %dx%d act %d %d %d res %d\n", cin, wide, cout,
			   dw.kh, dw.kw, dw.sh, dw.sw, dw.dh, dw.dw, mb.dw.pt, mb.dw.pl, h, w, mb.expand.act.kind, dw.act.kind,
			   mb.project.act.kind, use_res);
	for (int i = 0; i < 3; i++)
		free(packs[i]);
	free(own);
	free(scratch);
	free(in.base);
	free(expanded.base);
	free(deep.base);
	free(res.base);
	free(want.base);
	free(got.base);
	free(cut.base);
	return good;
}

static void
test(void)
{
	bool		good = true;

	for (int i = 0; i < 300; i++)
	{
		int			k = i % 4 == 3 ? between(1, 7) : i % 3 * 2 + 3;
		int			wide = between(2, 75);
		int			what = between(0, 5);
		nn_conv		dw = {.kh = k, .kw = between(0, 4) ? k : between(1, 7), .sh = between(1, 2), .sw = between(1, 2),
			.dh = between(0, 4) ? 1 : 2, .dw = between(0, 4) ? 1 : 2, .act = random_act(between(0, nn_act_last))};

		if (i % 40 == 39)
			dw.sh = dw.sw = 3;
		good = block_case(what == 0 ? 0 : between(1, 40), wide, what == 1 ? 0 : between(1, 40), dw,
						  between(1, 30), between(1, 34), between(0, 1)) && good;
	}
	ok(good, "%s: blocks in one go are their layers one by one", K->name);
	/* as networks have them: small maps without a ring, larger ones with */
	{
		nn_conv		dw = {.kh = 3, .kw = 3, .sh = 1, .sw = 1, .dh = 1, .dw = 1, .act = random_act(nn_act_relu)};

		good = block_case(24, 144, 24, dw, 56, 56, true) && block_case(96, 576, 96, dw, 14, 14, true) &&
			block_case(160, 960, 320, dw, 7, 7, false) && block_case(0, 32, 16, dw, 112, 112, false);
		dw.sh = dw.sw = 2;
		good = block_case(16, 96, 24, dw, 112, 112, false) && good;
		dw.kh = dw.kw = 5;
		dw.act = random_act(nn_act_silu);
		good = block_case(40, 240, 80, dw, 28, 28, false) && block_case(40, 240, 0, dw, 28, 28, false) && good;
	}
	ok(good, "%s: MobileNet's and EfficientNet's", K->name);
}

int
main(void)
{
	each_isa(test);
	return done_testing();
}
