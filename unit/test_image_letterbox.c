/*
 * test_image_letterbox.c
 *	  The letterbox: its geometry, its bars, and the same bits with and without
 *	  vectors.  Against OpenCV itself: t/test_detect.py.
 */
#include "image/image_private.h"
#include "unit.h"

#include <math.h>

static const mr_env *env = &mr_env_malloc;
static uint32_t seed = 1;

static uint32_t
draw(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

static bool
plan_is(int w, int h, int stride, int width, int height, int inner_w, int inner_h, int left, int top)
{
	img_letterbox b;

	img_plan_letterbox(w, h, 640, 640, stride, &b);
	return b.src_w == w && b.src_h == h && b.width == width && b.height == height &&
		b.inner_w == inner_w && b.inner_h == inner_h && b.left == left && b.top == top;
}

static float *
letterbox(const img_pixels *src, const img_prep *prep, const img_letterbox *b, const img_kernels *kernels)
{
	float	   *out = malloc(sizeof(float) * 3 * (size_t) b->width * (size_t) b->height);
	mr_status	st;

	img_kernels_force(kernels);
	if (img_letterbox_pixels(env, src, prep, b, out, &st) != MR_OK)
		ok(false, "%s", st.message);
	img_kernels_force(NULL);
	return out;
}

static void
pixels(int w, int h, img_pixels *out)
{
	if (img_alloc(env, w, h, out, NULL) != MR_OK)
		exit(1);
	for (size_t i = 0; i < out->stride * (size_t) h; i++)
		out->data[i] = (uint8_t) draw(256);
}

int
main(void)
{
	img_prep	prep = {.scale = 1 / 255.0f, .mean = {0.1f, 0.2f, 0.3f}, .std = {1, 2, 3}, .pad = 114};
	img_prep	plain = {.scale = 1, .std = {1, 1, 1}, .pad = 7};
	img_letterbox b;
	img_pixels	src;
	float	   *a,
			   *v;
	int			differ = 0;
	mr_status	st;

	ok(plan_is(810, 1080, 0, 640, 640, 480, 640, 80, 0), "a high image has bars left and right");
	ok(plan_is(1280, 719, 0, 640, 640, 640, 360, 0, 140), "359.5 pixels are 360: halves go to even");
	ok(plan_is(1281, 720, 32, 640, 384, 640, 360, 0, 12), "with a stride bars end at its next multiple");
	ok(plan_is(1000, 999, 0, 640, 640, 640, 639, 0, 0), "one row too few: it lies below");
	ok(plan_is(3, 16000, 0, 640, 640, 1, 640, 319, 0) && plan_is(16000, 1, 32, 640, 32, 640, 1, 0, 15), "at least one pixel");
	ok(plan_is(100, 50, 0, 640, 640, 640, 320, 0, 160), "a small image is enlarged");

	for (int t = 0; t < 60; t++)
	{
		int			w = 1 + (int) draw(300),
					h = 1 + (int) draw(300),
					to_w = 1 + (int) draw(200),
					to_h = 1 + (int) draw(200);

		if (t % 6 == 0)
		{
			w = 2 * to_w;
			h = 2 * to_h;
		}
		prep.bgr = t % 2;
		pixels(w, h, &src);
		img_plan_letterbox(w, h, to_w, to_h, t % 3 ? 0 : 32, &b);
		a = letterbox(&src, &prep, &b, &img_kernels_portable);
		v = letterbox(&src, &prep, &b, NULL);
		differ += memcmp(a, v, sizeof(float) * 3 * (size_t) b.width * (size_t) b.height) != 0;
		for (int i = 0; i < 3 * b.width * b.height; i++)
			differ += !isfinite(a[i]);
		free(a);
		free(v);
		img_free(env, &src);
	}
	ok(differ == 0, "60 letterboxes are the same bits with vectors");

	pixels(5, 3, &src);
	img_plan_letterbox(5, 3, 5, 7, 0, &b);
	a = letterbox(&src, &plain, &b, NULL);
	differ = 0;
	for (int c = 0; c < 3; c++)
		for (int y = 0; y < 7; y++)
			for (int x = 0; x < 5; x++)
				differ += a[(c * 7 + y) * 5 + x] != (float) (y < 2 || y > 4 ? 7 : src.data[(size_t) (y - 2) * src.stride + (size_t) (3 * x + c)]);
	ok(differ == 0, "pixels that need no resizing stay as they are, between bars");
	free(a);

	b.src_w = 6;
	a = malloc(sizeof(float) * 3 * 7 * 5);
	ok(img_letterbox_pixels(env, &src, &plain, &b, a, &st) == MR_INVALID, "an image of another size is refused");
	b.src_w = 5;
	plain.grey = true;
	ok(img_letterbox_pixels(env, &src, &plain, &b, a, &st) == MR_UNSUPPORTED, "so is one plane");
	free(a);
	img_free(env, &src);
	return done_testing();
}
