/*
 * pack.c
 *	  Lay weights out in the order the kernels read them.
 *
 * The order is told in kernels_core.h.  A pack is position independent: a head
 * of 64 bytes, the bias padded to blocks of 16, the panels one after the other.
 * Only the width of a panel depends on the instruction set.
 */
#include "nn/kernels_core.h"

/* Blocks of 16 couts that one tile covers: what its registers hold. */
int
nn_panel_blocks(nn_isa isa)
{
	return isa == nn_isa_avx512 ? 2 : 1;
}

/* Values of K that a planar pack has a cout: one run of all taps and channels. */
static inline bool
is_planar(const nn_conv *cv)
{
	return cv->form == nn_conv_planar;
}

/* The panel that starts at cout block ob.  With groups it needs only the blocks
 * of the groups its couts lie in; what these hold of other groups' channels
 * gets zero weights. */
nn_panel
nn_panel_at(nn_isa isa, const nn_conv *cv, int ob)
{
	nn_panel	p;
	int			left = nn_blocks(cv->cout) - ob;
	int			full = nn_panel_blocks(isa);
	int			g_in = cv->cin / cv->groups,
				g_out = cv->cout / cv->groups;
	int			last = (ob + full) * NN_LANES;
	int			end;

	p.ob = ob;
	p.nb = left < full ? left : full;
	if (is_planar(cv))
	{
		p.cb = 0;
		p.ncb = 1;
		p.k = (size_t) cv->kh * cv->kw * cv->cin;
		return p;
	}
	if (last > cv->cout)
		last = cv->cout;
	p.cb = ob * NN_LANES / g_out * g_in / NN_LANES;
	end = ((last - 1) / g_out + 1) * g_in;
	p.ncb = nn_blocks(end) - p.cb;
	end = nn_blocks(end) * NN_LANES;
	if (end > cv->cin)
		end = cv->cin;
	p.k = (size_t) (end - p.cb * NN_LANES) * cv->kh * cv->kw;
	return p;
}

static size_t
head_bytes(int cout)
{
	return sizeof(nn_pack) + sizeof(float) * NN_LANES * nn_blocks(cout);
}

void
nn_pack_head(void *dst, nn_isa isa, nn_pack_kind kind, const nn_conv *cv, size_t bytes, const float *bias)
{
	nn_pack		head;
	float	   *b = (float *) ((char *) dst + sizeof(nn_pack));

	memset(&head, 0, sizeof(head));
	head.magic = NN_PACK_MAGIC;
	head.kind = kind;
	head.dtype = nn_f32;
	head.isa = isa;
	head.form = cv->form;
	head.bytes = bytes;
	head.cin = cv->cin;
	head.cout = cv->cout;
	head.kh = cv->kh;
	head.kw = cv->kw;
	head.groups = cv->groups;
	head.panel = NN_LANES * nn_panel_blocks(isa);
	memcpy(dst, &head, sizeof(head));
	memset(b, 0, sizeof(float) * NN_LANES * nn_blocks(cv->cout));
	if (bias)
		memcpy(b, bias, sizeof(float) * cv->cout);
}

size_t
nn_conv_pack_size(nn_isa isa, const nn_conv *cv)
{
	size_t		floats = 0;
	int			blocks = nn_blocks(cv->cout);

	for (int ob = 0; ob < blocks; ob += nn_panel_blocks(isa))
	{
		nn_panel	p = nn_panel_at(isa, cv, ob);

		floats += p.k * p.nb * NN_LANES;
	}
	return head_bytes(cv->cout) + floats * sizeof(float);
}

/* The weight of cout o for input channel c (of all groups) and tap t; 0 if they
 * are of different groups or o is padding. */
static inline float
weight(const nn_conv *cv, const float *w, int o, int c, int t)
{
	int			g_in = cv->cin / cv->groups;
	int			g;

	if (o >= cv->cout)
		return 0;
	g = o / (cv->cout / cv->groups);
	if (c < g * g_in || c >= (g + 1) * g_in)
		return 0;
	return w[((size_t) o * g_in + (c - g * g_in)) * cv->kh * cv->kw + t];
}

bool
nn_conv_pack(const mr_env *env, nn_isa isa, const nn_conv *cv, const float *w, const float *bias, void *dst)
{
	int			taps = cv->kh * cv->kw;
	int			blocks = nn_blocks(cv->cout);
	float	   *out;

	nn_pack_head(dst, isa, nn_pack_conv, cv, nn_conv_pack_size(isa, cv), bias);
	out = (float *) ((char *) dst + head_bytes(cv->cout));
	for (int ob = 0; ob < blocks; ob += nn_panel_blocks(isa))
	{
		nn_panel	p = nn_panel_at(isa, cv, ob);
		int			o0 = ob * NN_LANES,
					o1 = o0 + p.nb * NN_LANES;

		if (mr_interrupted(env))
			return false;
		if (is_planar(cv))
		{
			for (int c = 0; c < cv->cin; c++)
				for (int t = 0; t < taps; t++)
					for (int o = o0; o < o1; o++)
						*out++ = weight(cv, w, o, c, t);
			continue;
		}
		for (int cb = p.cb; cb < p.cb + p.ncb; cb++)
			for (int t = 0; t < taps; t++)
				for (int c = cb * NN_LANES; c < (cb + 1) * NN_LANES && c < cv->cin; c++)
					for (int o = o0; o < o1; o++)
						*out++ = weight(cv, w, o, c, t);
	}
	return true;
}

/* Depthwise: bias, then per block of channels the taps' 16 weights. */
size_t
nn_depthwise_pack_size(nn_isa isa, const nn_conv *cv)
{
	return head_bytes(cv->cout) +
		sizeof(float) * NN_LANES * nn_blocks(cv->cout) * (size_t) cv->kh * cv->kw;
}

void
nn_depthwise_pack(nn_isa isa, const nn_conv *cv, const float *w, const float *bias, void *dst)
{
	int			taps = cv->kh * cv->kw;
	float	   *out;

	nn_pack_head(dst, isa, nn_pack_depthwise, cv, nn_depthwise_pack_size(isa, cv), bias);
	out = (float *) ((char *) dst + head_bytes(cv->cout));
	for (int b = 0; b < nn_blocks(cv->cout); b++)
		for (int t = 0; t < taps; t++)
			for (int c = b * NN_LANES; c < (b + 1) * NN_LANES; c++)
				*out++ = c < cv->cout ? w[(size_t) c * taps + t] : 0;
}

/* A product is a 1x1 convolution of m pixels. */
static nn_conv
gemm_as_conv(int k, int n)
{
	nn_conv		cv = {0};

	cv.cin = k;
	cv.cout = n;
	cv.groups = cv.kh = cv.kw = cv.sh = cv.sw = cv.dh = cv.dw = 1;
	return cv;
}

size_t
nn_gemm_pack_size(nn_isa isa, int k, int n)
{
	nn_conv		cv = gemm_as_conv(k, n);

	return nn_conv_pack_size(isa, &cv);
}

bool
nn_gemm_pack(const mr_env *env, nn_isa isa, int k, int n, const float *b, size_t rs, size_t cs, const float *bias, void *dst)
{
	nn_conv		cv = gemm_as_conv(k, n);
	float	   *out = (float *) ((char *) dst + head_bytes(n));
	int			width = NN_LANES * nn_panel_blocks(isa);

	nn_pack_head(dst, isa, nn_pack_gemm, &cv, nn_gemm_pack_size(isa, k, n), bias);
	for (int o0 = 0; o0 < n; o0 += width)
	{
		int			o1 = o0 + NN_LANES * nn_panel_at(isa, &cv, o0 / NN_LANES).nb;

		if (mr_interrupted(env))
			return false;
		for (int i = 0; i < k; i++)
			for (int o = o0; o < o1; o++)
				*out++ = o < n ? b[(size_t) i * rs + (size_t) o * cs] : 0;
	}
	return true;
}

bool
nn_pack_check(const void *pack, size_t len, nn_isa isa, nn_pack_kind kind, const nn_conv *cv)
{
	nn_pack		head;
	size_t		need;

	if (len < sizeof(head) || (uintptr_t) pack % NN_ALIGN != 0)
		return false;
	memcpy(&head, pack, sizeof(head));
	if (cv->cin < 1 || cv->cout < 1 || cv->kh < 1 || cv->kw < 1 || cv->groups < 1 ||
		cv->cin % cv->groups != 0 || cv->cout % cv->groups != 0 ||
		cv->cin > (1 << 26) || cv->cout > (1 << 26) || (double) cv->cin * cv->cout * cv->kh * cv->kw > 1e15)
		return false;
	need = kind == nn_pack_depthwise ? nn_depthwise_pack_size(isa, cv) :
		kind == nn_pack_winograd ? nn_winograd_pack_size(isa, cv) : nn_conv_pack_size(isa, cv);
	return head.magic == NN_PACK_MAGIC && head.kind == kind && head.dtype == nn_f32 && head.isa == isa &&
		head.form == cv->form && head.bytes == need && need <= len &&
		head.cin == cv->cin && head.cout == cv->cout && head.kh == cv->kh && head.kw == cv->kw &&
		head.groups == cv->groups && head.panel == NN_LANES * nn_panel_blocks(isa);
}
