/*
 * bench/kernels_low.c
 *	  Gop/s of the int8 and bfloat16 kernels on the layers of kernel_layers.h,
 *	  next to the peak of their instruction in registers.
 *
 * As bench/kernels.c: rounds over all layers, interleaved with the peak loop, the
 * best of each counts.  Usage:
 *		kernels_low u8|bf16|w16 [isa [rounds [network]]]
 * Build: make build/bench/kernels_low.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nn/kernels_low.h"
#include "kernel_layers.h"

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *
zeros(size_t bytes)
{
	void	   *p = NULL;

	bytes = (bytes + 127) / 64 * 64;
	if (posix_memalign(&p, 64, bytes))
		exit(1);
	memset(p, 0, bytes);
	return p;
}

/* Gop/s of 16 independent chains of an instruction; 0 where it is not known. */
#if defined(__x86_64__)
#define CHAIN(op) \
	"	" op " %%zmm30, %%zmm31, %%zmm0\n	" op " %%zmm30, %%zmm31, %%zmm1\n" \
	"	" op " %%zmm30, %%zmm31, %%zmm2\n	" op " %%zmm30, %%zmm31, %%zmm3\n" \
	"	" op " %%zmm30, %%zmm31, %%zmm4\n	" op " %%zmm30, %%zmm31, %%zmm5\n" \
	"	" op " %%zmm30, %%zmm31, %%zmm6\n	" op " %%zmm30, %%zmm31, %%zmm7\n" \
	"	" op " %%zmm30, %%zmm31, %%zmm8\n	" op " %%zmm30, %%zmm31, %%zmm9\n" \
	"	" op " %%zmm30, %%zmm31, %%zmm10\n	" op " %%zmm30, %%zmm31, %%zmm11\n" \
	"	" op " %%zmm30, %%zmm31, %%zmm12\n	" op " %%zmm30, %%zmm31, %%zmm13\n" \
	"	" op " %%zmm30, %%zmm31, %%zmm14\n	" op " %%zmm30, %%zmm31, %%zmm15\n"
#define LOOP(op, ops) \
	do { \
		double		t = now(); \
		for (int r = 0; r < 100000; r++) \
			__asm__ __volatile__(CHAIN(op) : : : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
								 "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"); \
		return 100000.0 * 16 * (ops) / (now() - t) * 1e-9; \
	} while (0)

__attribute__((target("avx512f"), noinline)) static double
peak(nn_isa isa, nn_low_kind kind)
{
	if (isa < nn_isa_avx512)
		return 0;
	if (kind == nn_low_bf16)
		LOOP("vdpbf16ps", 64);
	if (kind == nn_low_w16)
		LOOP("vfmadd231ps", 32);
	if (isa >= nn_isa_avx512_vnni)
		LOOP("vpdpbusd", 128);
	return 0;
}
#else
static double
peak(nn_isa isa, nn_low_kind kind)
{
	return 0;
}
#endif

typedef struct work
{
	nn_conv		cv;
	nn_low_view in,
				out,
				res;
	nn_low_rows plain,
				y;
	void	   *pack,
			   *scratch;
	double		ops;
	double		best;
} work;

static nn_low_view
view(nn_elem e, int c, int h, int w, nn_margin m)
{
	nn_low_view l = {.v = {.c = c, .h = h, .w = w}, .q = {e, 0.02f, e == nn_elem_u8 ? 10 : 0}};
	size_t		words;

	l.v.row_pitch = 16 * (size_t) (m.left + w + m.right);
	l.v.blk_pitch = l.v.row_pitch * (m.top + h + m.bottom);
	words = l.v.blk_pitch * nn_elem_blocks(e, c);
	l.v.data = zeros(words * 4);
	if (e == nn_elem_u8)
		for (size_t i = 0; i < words * 4; i++)
			((uint8_t *) l.v.data)[i] = (uint8_t) (i * 2654435761u >> 16);
	l.v.data += m.top * l.v.row_pitch + 16 * m.left;
	return l;
}

static void
prepare(const nn_low_kernels *k, const layer *l, work *w)
{
	nn_margin	none = {0, 0, 0, 0},
				one = l->k == 3 && l->kind <= WINOGRAD ? (nn_margin) {1, 1, 1, 1} : none;
	int			pad = l->k / 2;
	int			out = (l->size + 2 * pad - l->k) / l->s + 1;
	size_t		n = (size_t) l->cout * (l->kind == DEPTHWISE ? 1 : l->cin) * l->k * l->k;
	float	   *f = zeros(n * sizeof(float)),
			   *scale = zeros(l->cout * sizeof(float));
	int8_t	   *q = zeros(n);
	nn_low_weights wt = {f, q, scale, NULL, NULL};

	for (size_t i = 0; i < n; i++)
	{
		f[i] = (float) ((i * 2654435761u >> 8) % 1000) / 1000.0f - 0.5f;
		q[i] = (int8_t) (f[i] * 254);
	}
	for (int i = 0; i < l->cout; i++)
		scale[i] = 0.01f;
	w->cv = (nn_conv) {.cin = l->cin, .cout = l->cout, .groups = l->kind == DEPTHWISE ? l->cin : 1,
		.kh = l->k, .kw = l->k, .sh = l->s, .sw = l->s, .dh = 1, .dw = 1, .pt = pad, .pl = pad,
		.form = l->kind == STEM ? nn_conv_planar : nn_conv_blocked, .act = {nn_act_relu, 0, 0}};
	w->best = 1e30;
	w->ops = 2.0 * n * out * out;
	w->in = view(k->elem, l->cin, l->size, l->size, l->kind == GEMM ? none :
				 nn_conv_margin(&w->cv, l->size, l->size, out, out));
	w->out = view(k->elem, l->cout, out, out, one);
	w->res = view(k->elem, l->cout, out, out, one);
	w->plain = (nn_low_rows) {zeros(sizeof(float) * l->cin * l->size * l->size), l->cin, {nn_elem_f32, 0.02f, 10}};
	if (l->kind == GEMM)
	{
		w->ops = 2.0 * l->cin * l->cout * l->size;
		w->pack = zeros(nn_low_gemm_pack_size(k->isa, k->kind, l->cin, l->cout));
		nn_low_gemm_pack(&mr_env_malloc, k->isa, k->kind, l->cin, l->cout, &wt, 1, l->cin, w->pack);
		w->scratch = zeros(k->gemm_scratch(l->size, l->cin, l->cout));
		w->y = (nn_low_rows) {zeros(sizeof(float) * l->size * l->cout), l->cout, {nn_elem_f32, 1, 0}};
	}
	else if (l->kind == GAP)
		w->ops = 1.0 * l->cin * l->size * l->size;
	else if (l->kind == DEPTHWISE)
	{
		w->pack = zeros(nn_low_depthwise_pack_size(k->isa, k->kind, &w->cv));
		nn_low_depthwise_pack(k->isa, k->kind, &w->cv, &wt, w->pack);
	}
	else
	{
		w->pack = zeros(nn_low_conv_pack_size(k->isa, k->kind, &w->cv));
		nn_low_conv_pack(&mr_env_malloc, k->isa, k->kind, &w->cv, &wt, w->pack);
		w->scratch = zeros(k->conv_scratch(&w->cv, l->size, l->size, out, out));
	}
	free(f);
	free(q);
	free(scale);
}

static void
once(const nn_low_kernels *k, const layer *l, work *w)
{
	const nn_low_view *res = l->res ? &w->res : NULL;

	switch (l->kind)
	{
		case CONV:
		case WINOGRAD:			/* of float32: here a plain one */
			k->conv(&w->cv, w->pack, &w->in, res, &w->out, 0, w->out.v.h, w->scratch);
			break;
		case STEM:
			k->conv_planar(&w->cv, w->pack, &w->plain, l->size, l->size, res, &w->out, 0, w->out.v.h, w->scratch);
			break;
		case DEPTHWISE:
			if (k->depthwise)
				k->depthwise(&w->cv, w->pack, &w->in, res, &w->out, 0, w->out.v.h);
			break;
		case GEMM:
			k->gemm(w->pack, l->size, &w->plain, NULL, &w->y, w->cv.act, w->scratch);
			break;
		case GAP:
			if (k->global_avgpool)
				k->global_avgpool(&w->in, &w->out);
			break;
	}
}

int
main(int argc, char **argv)
{
	static work w[LAYERS];
	static const char *const kinds[] = {"u8", "bf16", "w16"};
	const nn_low_kernels *k = NULL;
	int			rounds = argc > 3 ? atoi(argv[3]) : 10;
	double		top = 0;

	for (nn_low_kind kind = nn_low_u8; kind <= nn_low_w16; kind++)
		for (nn_isa isa = nn_isa_auto; isa <= nn_isa_last; isa++)
			if (argc > 1 && strcmp(argv[1], kinds[kind]) == 0 &&
				strcmp(argc > 2 ? argv[2] : "auto", nn_isa_name(isa)) == 0)
				k = nn_low_for(isa, kind);
	if (k == NULL)
	{
		fprintf(stderr, "no such kernels here\n");
		return 1;
	}
	for (int i = 0; i < LAYERS; i++)
		if (layers[i].count > 0 && (argc <= 4 || strcmp(argv[4], layers[i].net) == 0))
			prepare(k, &layers[i], &w[i]);
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < LAYERS; i++)
		{
			double		t,
						p = i % 8 == 0 ? peak(k->isa, k->kind) : 0;

			top = p > top ? p : top;
			if (w[i].ops == 0)
				continue;
			once(k, &layers[i], &w[i]);
			for (int n = 0; n < 4; n++)
			{
				t = now();
				once(k, &layers[i], &w[i]);
				t = now() - t;
				w[i].best = t < w[i].best ? t : w[i].best;
			}
		}
	printf("%s, peak of its instruction %.0f Gop/s\n", k->name, top);
	for (int i = 0; i < LAYERS;)
	{
		static const char *names[] = {"conv", "conv", "stem", "depthwise", "gemm", "mean"};
		const char *net = layers[i].net;
		double		ms = 0,
					ops = 0;

		for (; i < LAYERS && strcmp(layers[i].net, net) == 0; i++)
		{
			const layer *l = &layers[i];

			if (w[i].ops == 0)
				continue;
			ms += w[i].best * 1e3 * l->count;
			ops += w[i].ops * l->count;
			printf("%-12s %-9s %4d -> %4d  %dx%d/%d @%-3d %s x%d %9.4f ms %6.1f Gop/s %3.0f %%\n", net,
				   names[l->kind], l->cin, l->cout, l->k, l->k, l->s, l->size, l->res ? "+res" : "    ", l->count,
				   w[i].best * 1e3, w[i].ops / w[i].best * 1e-9,
				   top > 0 ? w[i].ops / w[i].best * 1e-7 / top : 0);
		}
		if (ops > 0)
			printf("%-12s all layers: %.3f ms, %.1f Gop/s, %.0f %% of the peak\n\n", net, ms, ops / ms * 1e-6,
				   top > 0 ? ops / ms * 1e-4 / top : 0);
	}
	return 0;
}
