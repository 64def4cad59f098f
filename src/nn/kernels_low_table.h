/*
 * kernels_low_table.h
 *	  The table of a kind of few bits on an instruction set, after its
 *	  tiles.  The including file defines KIND (u8, bf16, w16), SET (the
 *	  level), BODY (the level whose kernels_low_body.h it uses), NAME and RATE.
 */
#define SET_(s) nn_isa_##s
#define SET__(s) SET_(s)
#define KIND_(k) nn_low_##k
#define KIND__(k) KIND_(k)

#ifndef CONFIGURE
#define CONFIGURE NULL
#endif
#ifndef STEM_TILE
#define STEM_TILE NN_LOW_JOIN(tile, KIND, SET)
#endif
#ifndef MAX_MR
#define MAX_MR TILE_MR
#endif

static const nn_low_ops ops = {
	.isa = SET__(SET),
	.kind = KIND__(KIND),
	.max_mr = MAX_MR,
	.tile = NN_LOW_JOIN(tile, KIND, SET),
	.stem_tile = STEM_TILE,
	.configure = CONFIGURE,
#ifdef E_STORE_SILU
	.silu = true,
#endif
	.post = NN_LOW_NAME(post, BODY),
	.row = LOW_ROW,
	.words = LOW_WORDS,
};

static size_t
conv_scratch(const nn_conv *cv, int in_h, int in_w, int out_h, int out_w)
{
	return nn_low_drive_scratch(&ops, cv, in_h, in_w, out_h, out_w);
}

static void
conv(const nn_conv *cv, const void *pack, const nn_low_view *in, const nn_low_view *res, const nn_low_view *out,
	 int y0, int y1, void *scratch)
{
	nn_low_drive_conv(&ops, cv, pack, in, res, out, y0, y1, scratch);
}

static void
conv_planar(const nn_conv *cv, const void *pack, const nn_low_rows *in, int in_h, int in_w, const nn_low_view *res,
			const nn_low_view *out, int y0, int y1, void *scratch)
{
	nn_low_drive_planar(&ops, cv, pack, in, in_h, in_w, res, out, y0, y1, scratch);
}

static size_t
gemm_scratch(int m, int k, int n)
{
	return nn_low_drive_gemm_scratch(&ops, m, k, n);
}

static void
gemm(const void *pack, int m, const nn_low_rows *a, const nn_low_rows *res, const nn_low_rows *y, nn_act act,
	 void *scratch)
{
	nn_low_drive_gemm(&ops, pack, m, a, res, y, act, scratch);
}

const nn_low_kernels NN_LOW_NAME(KIND, SET) = {
	.isa = SET__(SET),
	.kind = KIND__(KIND),
	.elem = LOW_ELEM,
	.name = NAME,
	.mac_rate = RATE,
	.conv_scratch = conv_scratch,
	.conv = conv,
	.conv_planar = conv_planar,
	.gemm_scratch = gemm_scratch,
	.gemm = gemm,
#ifdef LOW_WINOGRAD
	.winograd_scratch = winograd_scratch,
	.winograd = winograd,
#endif
#ifndef LOW_ONLY_TILES
	.depthwise = NN_LOW_NAME(depthwise, BODY),
	.maxpool = NN_LOW_NAME(maxpool, BODY),
	.avgpool = NN_LOW_NAME(avgpool, BODY),
	.global_avgpool = NN_LOW_NAME(global_avgpool, BODY),
	.binary = NN_LOW_NAME(binary, BODY),
	.convert = NN_LOW_NAME(convert, BODY),
	.convert_rows = NN_LOW_NAME(convert_rows, BODY),
	.from_plain = NN_LOW_NAME(from_plain, BODY),
	.to_plain = NN_LOW_NAME(to_plain, BODY),
	.copy_channels = NN_LOW_NAME(copy_channels, BODY),
#endif
};
