/*
 * bench/kernels.c
 *	  GFLOP/s of each kernel on the layers of ResNet-20 (CIFAR), MobileNetV2 and
 *	  ResNet-50, next to the peak of a pure FMA loop on the same core.
 *
 * Other load and the clock change within seconds, so rounds over all layers are
 * interleaved with the peak loop and the best of each counts.  Usage:
 *		kernels [isa [rounds [network]]]
 * Build: make build/bench/kernels.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "nn/kernels.h"
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

static void
fill(float *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (float) ((i * 2654435761u >> 8) % 1000) / 1000.0f - 0.5f;
}

/* GFLOP/s of independent FMAs in registers; 0 where unknown. */
#if defined(__x86_64__)
__attribute__((target("avx512f"), noinline)) static double
peak_avx512(void)
{
	__m512		a[16],
				x = _mm512_set1_ps(0.999f),
				y = _mm512_set1_ps(0.001f);
	double		t = now();
	float		out[16];

	for (int i = 0; i < 16; i++)
		a[i] = _mm512_set1_ps((float) i);
	for (int r = 0; r < 100000; r++)
	{
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			a[i] = _mm512_fmadd_ps(a[i], x, y);
	}
	for (int i = 1; i < 16; i++)
		a[0] = _mm512_add_ps(a[0], a[i]);
	_mm512_storeu_ps(out, a[0]);
	t = now() - t;
	return out[0] > -1e30f ? 100000.0 * 16 * 32 / t * 1e-9 : 0;
}

__attribute__((target("avx2,fma"), noinline)) static double
peak_avx2(void)
{
	__m256		a[12],
				x = _mm256_set1_ps(0.999f),
				y = _mm256_set1_ps(0.001f);
	double		t = now();
	float		out[8];

	for (int i = 0; i < 12; i++)
		a[i] = _mm256_set1_ps((float) i);
	for (int r = 0; r < 100000; r++)
	{
#pragma GCC unroll 12
		for (int i = 0; i < 12; i++)
			a[i] = _mm256_fmadd_ps(a[i], x, y);
	}
	for (int i = 1; i < 12; i++)
		a[0] = _mm256_add_ps(a[0], a[i]);
	_mm256_storeu_ps(out, a[0]);
	t = now() - t;
	return out[0] > -1e30f ? 100000.0 * 12 * 16 / t * 1e-9 : 0;
}
#endif

static double
peak(nn_isa isa)
{
#if defined(__x86_64__)
	if (isa == nn_isa_avx512)
		return peak_avx512();
	if (isa == nn_isa_avx2)
		return peak_avx2();
#endif
	return 0;
}

typedef struct work
{
	nn_conv		cv;
	nn_view		in,
				out,
				res;
	void	   *pack,
			   *scratch;
	float	   *plain;
	double		flop;
	double		best;
} work;

static nn_view
view(int c, int h, int w, nn_margin m)
{
	nn_view		v = {NULL, c, h, w, 0, 0};
	float	   *p;

	v.row_pitch = 16 * (size_t) (m.left + w + m.right);
	v.blk_pitch = v.row_pitch * (m.top + h + m.bottom);
	p = zeros(v.blk_pitch * nn_blocks(c) * sizeof(float));
	v.data = p + m.top * v.row_pitch + 16 * m.left;
	for (int b = 0; b < nn_blocks(c); b++)
		for (int y = 0; y < h; y++)
			fill(v.data + b * v.blk_pitch + y * v.row_pitch, (size_t) w * 16);
	return v;
}

static void
prepare(const nn_kernels *k, const layer *l, work *w)
{
	nn_margin	none = {0, 0, 0, 0};
	int			pad = l->k / 2;
	int			out = (l->size + 2 * pad - l->k) / l->s + 1;
	float	   *wt;

	w->cv = (nn_conv) {.cin = l->cin, .cout = l->cout, .groups = l->kind == DEPTHWISE ? l->cin : 1,
		.kh = l->k, .kw = l->k, .sh = l->s, .sw = l->s, .dh = 1, .dw = 1, .pt = pad, .pl = pad,
		.form = l->kind == STEM ? nn_conv_planar : l->kind != WINOGRAD ? nn_conv_blocked :
		out > 7 ? nn_conv_winograd4 : nn_conv_winograd2, .act = {nn_act_relu, 0, 0}};
	w->best = 1e30;
	w->flop = 2.0 * l->cout * (l->cin / w->cv.groups) * l->k * l->k * out * out;
	wt = zeros(sizeof(float) * l->cout * (l->cin / w->cv.groups) * l->k * l->k);
	fill(wt, (size_t) l->cout * (l->cin / w->cv.groups) * l->k * l->k);
	if (l->kind == GEMM)
	{
		w->flop = 2.0 * l->cin * l->cout * l->size;
		w->pack = zeros(nn_gemm_pack_size(k->isa, l->cin, l->cout));
		nn_gemm_pack(&mr_env_malloc, k->isa, l->cin, l->cout, wt, 1, l->cin, NULL, w->pack);
		w->scratch = zeros(k->gemm_scratch(l->size, l->cin, l->cout));
		w->plain = zeros(sizeof(float) * l->size * l->cin);
		w->out.data = zeros(sizeof(float) * l->size * l->cout);
	}
	else if (l->kind == GAP)
	{
		w->flop = 1.0 * l->cin * l->size * l->size;
		w->in = view(l->cin, l->size, l->size, none);
		w->out.data = zeros(sizeof(float) * 16 * nn_blocks(l->cin));
	}
	else
	{
		w->in = view(l->cin, l->size, l->size, nn_conv_margin(&w->cv, l->size, l->size, out, out));
		w->plain = zeros(sizeof(float) * l->cin * l->size * l->size);
		fill(w->plain, (size_t) l->cin * l->size * l->size);
		/* outputs as a 3x3 reader would want them, where the network has such */
		w->out = view(l->cout, out, out, l->k == 3 && l->kind <= WINOGRAD ? (nn_margin) {1, 1, 1, 1} : none);
		w->res = view(l->cout, out, out, l->k == 3 && l->kind <= WINOGRAD ? (nn_margin) {1, 1, 1, 1} : none);
		if (l->kind == DEPTHWISE)
		{
			w->pack = zeros(nn_depthwise_pack_size(k->isa, &w->cv));
			nn_depthwise_pack(k->isa, &w->cv, wt, NULL, w->pack);
		}
		else if (l->kind == WINOGRAD)
		{
			w->pack = zeros(nn_winograd_pack_size(k->isa, &w->cv));
			nn_winograd_pack(&mr_env_malloc, k->isa, &w->cv, wt, NULL, w->pack);
			w->scratch = zeros(k->winograd_scratch(&w->cv, out, out));
		}
		else
		{
			w->pack = zeros(nn_conv_pack_size(k->isa, &w->cv));
			nn_conv_pack(&mr_env_malloc, k->isa, &w->cv, wt, NULL, w->pack);
			w->scratch = zeros(k->conv_scratch(&w->cv, l->size, l->size, out, out));
		}
	}
	free(wt);
}

static void
once(const nn_kernels *k, const layer *l, work *w)
{
	const nn_view *res = l->res ? &w->res : NULL;

	switch (l->kind)
	{
		case CONV:
			k->conv(&w->cv, w->pack, &w->in, res, &w->out, 0, w->out.h, w->scratch);
			break;
		case WINOGRAD:
			k->winograd(&w->cv, w->pack, &w->in, res, &w->out, 0, w->out.h, w->scratch);
			break;
		case STEM:
			k->conv_planar(&w->cv, w->pack, w->plain, l->size, l->size, res, &w->out, 0, w->out.h, w->scratch);
			break;
		case DEPTHWISE:
			k->depthwise(&w->cv, w->pack, &w->in, res, &w->out, 0, w->out.h);
			break;
		case GEMM:
			k->gemm(w->pack, l->size, w->plain, l->cin, NULL, 0, w->out.data, l->cout, w->cv.act, w->scratch);
			break;
		case GAP:
			k->global_avgpool(&w->in, w->out.data);
			break;
	}
}

int
main(int argc, char **argv)
{
	static work w[LAYERS];
	const nn_kernels *k = NULL;
	int			rounds = argc > 2 ? atoi(argv[2]) : 10;
	double		top = 0;

	for (nn_isa isa = nn_isa_auto; isa <= nn_isa_avx512; isa++)
		if (strcmp(argc > 1 ? argv[1] : "auto", nn_isa_name(isa)) == 0)
			k = nn_kernels_for(isa);
	if (k == NULL)
	{
		fprintf(stderr, "no such instruction set here\n");
		return 1;
	}
	for (int i = 0; i < LAYERS; i++)
		if (argc <= 3 || strcmp(argv[3], layers[i].net) == 0)
			prepare(k, &layers[i], &w[i]);
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < LAYERS; i++)
		{
			double		t,
						p = i % 8 == 0 ? peak(k->isa) : 0;

			top = p > top ? p : top;
			if (w[i].flop == 0)
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
	printf("%s, peak of an FMA loop %.0f GFLOP/s\n", k->name, top);
	for (int i = 0; i < LAYERS;)
	{
		static const char *kinds[] = {"conv", "winograd", "stem", "depthwise", "gemm", "mean"};
		const char *net = layers[i].net;
		double		ms = 0,
					flop = 0;

		for (; i < LAYERS && strcmp(layers[i].net, net) == 0; i++)
		{
			const layer *l = &layers[i];

			if (w[i].flop == 0)
				continue;
			ms += w[i].best * 1e3 * l->count;
			flop += w[i].flop * l->count;
			printf("%-12s %-9s %4d -> %4d  %dx%d/%d @%-3d %s x%d %9.4f ms %6.1f GFLOP/s %3.0f %%\n", net,
				   kinds[l->kind], l->cin, l->cout, l->k, l->k, l->s, l->size, l->res ? "+res" : "    ", l->count,
				   w[i].best * 1e3, w[i].flop / w[i].best * 1e-9,
				   top > 0 ? w[i].flop / w[i].best * 1e-7 / top : 0);
		}
		if (flop > 0)
			printf("%-12s all layers: %.3f ms, %.1f GFLOP/s, %.0f %% of the peak\n\n", net, ms, flop / ms * 1e-6,
				   top > 0 ? flop / ms * 1e-4 / top : 0);
	}
	return 0;
}
