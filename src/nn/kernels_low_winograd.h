/*
 * kernels_low_winograd.h
 *	  The products of Winograd's method with tiles of few bits: what kinds that
 *	  have it share.  LOW_F32_OPS: the float32 kernels of the instruction set.
 */
static const nn_low_ops ops;

static size_t
wino_weights(const nn_conv *cv)
{
	return nn_low_winograd_bytes(ops.kind, cv);
}

static void
wino_sums(const nn_conv *cv, const void *b, const float *a, size_t a_blk, int m, float *o, size_t o_blk, void *rest)
{
	nn_low_drive_sums(&ops, cv->cin, cv->cout, b, a, a_blk, m, o, o_blk, rest);
}

static size_t
winograd_scratch(const nn_conv *cv, int out_h, int out_w)
{
	return nn_drive_winograd_scratch(&LOW_F32_OPS, cv, out_h, out_w) + nn_low_drive_sums_scratch(&ops, cv->cin);
}

#define LOW_WINOGRAD
