/*
 * pack_low.c
 *	  Lay int8 and bfloat16 weights out in the order the kernels read them (told
 *	  in kernels_low_core.h).
 *
 * Input channels are real up to the last word; AMX, whose tiles have 16 words,
 * gets whole blocks, with zeros behind.
 */
#include "nn/kernels_low_core.h"

int
nn_low_panel_blocks(nn_isa isa)
{
	return isa >= nn_isa_avx512 ? 2 : 1;
}

static inline bool
is_planar(const nn_conv *cv)
{
	return cv->form == nn_conv_planar;
}

/* The panel that starts at cout block ob.  With groups it needs only the words
 * of the groups its couts lie in; channels of other groups get zero weights. */
nn_low_panel
nn_low_panel_at(nn_isa isa, nn_low_kind kind, const nn_conv *cv, int ob)
{
	nn_low_panel p;
	int			left = nn_blocks(cv->cout) - ob;
	int			full = nn_low_panel_blocks(isa);
	int			per = nn_low_per_word(kind);
	int			g_in = cv->cin / cv->groups,
				g_out = cv->cout / cv->groups;
	int			last = (ob + full) * NN_LANES < cv->cout ? (ob + full) * NN_LANES : cv->cout;

	p.ob = ob;
	p.nb = left < full ? left : full;
	if (is_planar(cv))
	{
		p.w0 = 0;
		p.w1 = nn_low_planar_words(kind, cv->cin);
		return p;
	}
	p.w0 = ob * NN_LANES / g_out * g_in / per;
	p.w1 = (((last - 1) / g_out + 1) * g_in + per - 1) / per;
	if (isa == nn_isa_amx)
	{
		p.w0 = p.w0 / NN_LANES * NN_LANES;
		p.w1 = nn_blocks(p.w1) * NN_LANES;
	}
	return p;
}

static size_t
weight_bytes(nn_isa isa, nn_low_kind kind, const nn_conv *cv)
{
	size_t		words = 0;

	for (int ob = 0; ob < nn_blocks(cv->cout); ob += nn_low_panel_blocks(isa))
	{
		nn_low_panel p = nn_low_panel_at(isa, kind, cv, ob);

		words += (size_t) (p.w1 - p.w0) * cv->kh * cv->kw * p.nb * NN_LANES;
	}
	return words * nn_low_weight_bytes(kind);
}

static size_t
head_bytes(nn_low_kind kind, int cout)
{
	return sizeof(nn_pack) + (kind == nn_low_u8 ? 4 : 1) * nn_low_array(cout);
}

size_t
nn_low_conv_pack_size(nn_isa isa, nn_low_kind kind, const nn_conv *cv)
{
	isa = nn_low_isa(isa, kind);
	return head_bytes(kind, cv->cout) + weight_bytes(isa, kind, cv);
}

static int
weight_type(nn_low_kind kind)
{
	return kind == nn_low_u8 ? nn_s8 : nn_bf16;
}

static void
put_head(void *dst, nn_isa isa, nn_low_kind kind, nn_pack_kind what, const nn_conv *cv, size_t bytes,
		 const nn_low_weights *w)
{
	nn_pack		head;

	memset(&head, 0, sizeof(head));
	head.magic = NN_PACK_MAGIC;
	head.kind = what;
	head.dtype = weight_type(kind);
	head.isa = isa;
	head.form = cv->form;
	head.bytes = bytes;
	head.cin = cv->cin;
	head.cout = cv->cout;
	head.kh = cv->kh;
	head.kw = cv->kw;
	head.groups = cv->groups;
	head.panel = NN_LANES * nn_low_panel_blocks(isa);
	head.reserved[0] = kind;
	memcpy(dst, &head, sizeof(head));
	memset((char *) dst + sizeof(head), 0, head_bytes(kind, cv->cout) - sizeof(head));
	if (w->bias)
		memcpy((void *) nn_low_bias(dst), w->bias, sizeof(float) * cv->cout);
	if (kind != nn_low_u8)
		return;
	if (w->bias_q)
		memcpy((void *) nn_low_bias_q(dst, cv->cout), w->bias_q, sizeof(int32_t) * cv->cout);
	memcpy((void *) nn_low_scale(dst, cv->cout), w->scale, sizeof(float) * cv->cout);
}

/* Weight i of w as stored; returns where the next one goes. */
static inline char *
put(char *out, nn_low_kind kind, const nn_low_weights *w, size_t i)
{
	if (kind == nn_low_u8)
		*out = (char) w->q[i];
	else
	{
		uint16_t	x = nn_to_bf16(w->f[i]);

		memcpy(out, &x, sizeof(x));
	}
	return out + (kind == nn_low_u8 ? 1 : 2);
}

/* The weights of a word: channels from c of cout o at tap t; zeros for channels
 * of other groups, and for couts and channels that do not exist. */
static char *
put_word(char *out, nn_low_kind kind, const nn_conv *cv, const nn_low_weights *w, int o, int c, int t)
{
	int			g_in = cv->cin / cv->groups;
	int			first = o < cv->cout ? o / (cv->cout / cv->groups) * g_in : cv->cin;

	for (int i = 0; i < nn_low_per_word(kind); i++, c++)
	{
		if (o < cv->cout && c >= first && c < first + g_in)
			out = put(out, kind, w, ((size_t) o * g_in + (c - first)) * cv->kh * cv->kw + t);
		else
		{
			int			n = kind == nn_low_u8 ? 1 : 2;

			memset(out, 0, n);
			out += n;
		}
	}
	return out;
}

/* Sum of the int8 weights of each cout: what a zero point of the input is worth. */
static bool
put_sums(const mr_env *env, void *dst, int cout, size_t per_cout, const int8_t *q, size_t o_stride, size_t i_stride)
{
	int32_t    *sums = (int32_t *) nn_low_sums(dst, cout);

	for (int o = 0; o < cout; o++)
	{
		uint32_t	sum = 0;

		if (o % NN_LANES == 0 && mr_interrupted(env))
			return false;
		for (size_t i = 0; i < per_cout; i++)
			sum += (uint32_t) q[o * o_stride + i * i_stride];
		sums[o] = (int32_t) sum;
	}
	return true;
}

bool
nn_low_conv_pack(const mr_env *env, nn_isa isa, nn_low_kind kind, const nn_conv *cv, const nn_low_weights *w, void *dst)
{
	int			taps = cv->kh * cv->kw,
				per = nn_low_per_word(kind);
	size_t		per_cout = (size_t) cv->cin / cv->groups * taps;
	char	   *out = (char *) dst + head_bytes(kind, cv->cout);

	isa = nn_low_isa(isa, kind);
	put_head(dst, isa, kind, nn_pack_conv, cv, nn_low_conv_pack_size(isa, kind, cv), w);
	if (kind == nn_low_u8 && !put_sums(env, dst, cv->cout, per_cout, w->q, per_cout, 1))
		return false;
	for (int ob = 0; ob < nn_blocks(cv->cout); ob += nn_low_panel_blocks(isa))
	{
		nn_low_panel p = nn_low_panel_at(isa, kind, cv, ob);
		int			end;

		if (mr_interrupted(env))
			return false;
		for (int from = p.w0; from < p.w1; from = end)
		{
			end = is_planar(cv) ? p.w1 : (from / NN_LANES + 1) * NN_LANES;
			end = end < p.w1 ? end : p.w1;
			for (int t = 0; t < taps; t++)
				for (int word = from; word < end; word++)
					for (int o = ob * NN_LANES; o < (ob + p.nb) * NN_LANES; o++)
						out = put_word(out, kind, cv, w, o, word * per, t);
		}
	}
	return true;
}

/* ---- Winograd's method: 36 (16) times the weights of a product, cin x cout ---- */

size_t
nn_low_winograd_bytes(nn_low_kind kind, const nn_conv *cv)
{
	int			per = nn_low_per_word(kind);

	return (size_t) ((cv->cin + per - 1) / per) * NN_LANES * nn_blocks(cv->cout) * nn_low_weight_bytes(kind);
}

static int
winograd_side(const nn_conv *cv)
{
	return cv->form == nn_conv_winograd2 ? 4 : 6;
}

size_t
nn_low_winograd_pack_size(nn_isa isa, nn_low_kind kind, const nn_conv *cv)
{
	(void) isa;
	return head_bytes(kind, cv->cout) + winograd_side(cv) * winograd_side(cv) * nn_low_winograd_bytes(kind, cv);
}

bool
nn_low_winograd_pack(const mr_env *env, nn_isa isa, nn_low_kind kind, const nn_conv *cv, const nn_low_weights *w, void *dst)
{
	int			side = winograd_side(cv),
				per = nn_low_per_word(kind);
	size_t		size = nn_low_winograd_pack_size(isa, kind, cv),
				pitch = nn_low_winograd_bytes(kind, cv) / sizeof(uint16_t);
	uint16_t   *out = (uint16_t *) ((char *) dst + head_bytes(kind, cv->cout));

	isa = nn_low_isa(isa, kind);
	memset(dst, 0, size);
	put_head(dst, isa, kind, nn_pack_winograd, cv, size, w);
	for (int ob = 0; ob < nn_blocks(cv->cout); ob += nn_low_panel_blocks(isa))
	{
		int			nb = nn_blocks(cv->cout) - ob < nn_low_panel_blocks(isa) ? nn_blocks(cv->cout) - ob : nn_low_panel_blocks(isa);

		if (mr_interrupted(env))
			return false;
		for (int c = 0; c < cv->cin; c += per)
			for (int o = ob * NN_LANES; o < (ob + nb) * NN_LANES; o++)
				for (int i = 0; i < per; i++, out++)
				{
					float		u[36];

					if (o >= cv->cout || c + i >= cv->cin)
						continue;
					nn_winograd_weights(w->f + ((size_t) o * cv->cin + (c + i)) * 9, side, u);
					for (int xi = 0; xi < side * side; xi++)
						out[xi * pitch] = nn_to_bf16(u[xi]);
				}
	}
	return true;
}

/* Depthwise: the arrays, then per block of 16 channels the taps' 16 weights as
 * float32, which hold int8 and bfloat16 exactly. */
size_t
nn_low_depthwise_pack_size(nn_isa isa, nn_low_kind kind, const nn_conv *cv)
{
	(void) isa;
	return head_bytes(kind, cv->cout) + nn_low_array(cv->cout) * cv->kh * cv->kw;
}

void
nn_low_depthwise_pack(nn_isa isa, nn_low_kind kind, const nn_conv *cv, const nn_low_weights *w, void *dst)
{
	int			taps = cv->kh * cv->kw;
	float	   *out = (float *) ((char *) dst + head_bytes(kind, cv->cout));

	isa = nn_low_isa(isa, kind);
	put_head(dst, isa, kind, nn_pack_depthwise, cv, nn_low_depthwise_pack_size(isa, kind, cv), w);
	if (kind == nn_low_u8)
		(void) put_sums(&mr_env_malloc, dst, cv->cout, taps, w->q, taps, 1);	/* few: never interrupted */
	for (int b = 0; b < nn_blocks(cv->cout); b++)
		for (int t = 0; t < taps; t++)
			for (int c = b * NN_LANES; c < (b + 1) * NN_LANES; c++)
			{
				size_t		i = (size_t) c * taps + t;

				if (c >= cv->cout)
					*out++ = 0;
				else
					*out++ = kind == nn_low_u8 ? w->q[i] : nn_from_bf16(nn_to_bf16(w->f[i]));
			}
}

/* A product is a 1x1 convolution of m pixels. */
static nn_conv
gemm_as_conv(int k, int n)
{
	nn_conv		cv = {.cin = k, .cout = n, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1, .dh = 1, .dw = 1};

	return cv;
}

size_t
nn_low_gemm_pack_size(nn_isa isa, nn_low_kind kind, int k, int n)
{
	nn_conv		cv = gemm_as_conv(k, n);

	return nn_low_conv_pack_size(isa, kind, &cv);
}

bool
nn_low_gemm_pack(const mr_env *env, nn_isa isa, nn_low_kind kind, int k, int n, const nn_low_weights *w, size_t rs, size_t cs,
				 void *dst)
{
	nn_conv		cv = gemm_as_conv(k, n);
	int			per = nn_low_per_word(kind);
	char	   *out = (char *) dst + head_bytes(kind, n);

	isa = nn_low_isa(isa, kind);
	memset(dst, 0, nn_low_gemm_pack_size(isa, kind, k, n));
	put_head(dst, isa, kind, nn_pack_gemm, &cv, nn_low_gemm_pack_size(isa, kind, k, n), w);
	if (kind == nn_low_u8 && !put_sums(env, dst, n, k, w->q, cs, rs))
		return false;
	for (int ob = 0; ob < nn_blocks(n); ob += nn_low_panel_blocks(isa))
	{
		nn_low_panel p = nn_low_panel_at(isa, kind, &cv, ob);

		if (mr_interrupted(env))
			return false;
		for (int word = p.w0; word < p.w1; word++)
			for (int o = ob * NN_LANES; o < (ob + p.nb) * NN_LANES; o++)
			{
				char	   *next = out;

				for (int i = word * per; o < n && i < (word + 1) * per && i < k; i++)
					next = put(next, kind, w, (size_t) i * rs + (size_t) o * cs);
				out += nn_low_weight_bytes(kind);
			}
	}
	return true;
}

bool
nn_low_pack_check(const void *pack, size_t len, nn_isa isa, nn_low_kind kind, nn_pack_kind what,
				  const nn_conv *cv)
{
	nn_pack		head;
	size_t		need;

	isa = nn_low_isa(isa, kind);
	if (isa == nn_isa_auto || len < sizeof(head) || (uintptr_t) pack % NN_ALIGN != 0)
		return false;
	memcpy(&head, pack, sizeof(head));
	if (cv->cin < 1 || cv->cout < 1 || cv->kh < 1 || cv->kw < 1 || cv->groups < 1 ||
		cv->cin % cv->groups != 0 || cv->cout % cv->groups != 0 ||
		cv->cin > (1 << 26) || cv->cout > (1 << 26) || (double) cv->cin * cv->cout * cv->kh * cv->kw > 1e15)
		return false;
	if (what == nn_pack_winograd && !nn_winograd_can(cv))
		return false;
	need = what == nn_pack_depthwise ? nn_low_depthwise_pack_size(isa, kind, cv) :
		what == nn_pack_winograd ? nn_low_winograd_pack_size(isa, kind, cv) : nn_low_conv_pack_size(isa, kind, cv);
	return head.magic == NN_PACK_MAGIC && head.kind == what && head.dtype == weight_type(kind) &&
		head.isa == isa && head.form == cv->form && head.bytes == need && need <= len &&
		head.cin == cv->cin && head.cout == cv->cout && head.kh == cv->kh && head.kw == cv->kw &&
		head.groups == cv->groups && head.panel == NN_LANES * nn_low_panel_blocks(isa) &&
		head.reserved[0] == (uint32_t) kind;
}
