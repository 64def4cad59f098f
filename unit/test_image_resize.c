/*
 * test_image_resize.c
 *	  Resampling, fits and planes of floats: properties that must hold exactly.
 *	  (Against Pillow on real photos: t/test_image_pillow.py.)
 */
#include "image_make.h"
#include "image/image_private.h"

static const img_filter filters[] = {img_nearest, img_box, img_bilinear, img_bicubic, img_lanczos};
static const char *const filter_names[] = {"nearest", "box", "bilinear", "bicubic", "lanczos"};

static uint32_t seed = 1;

static uint32_t
next(void)
{
	return seed = seed * 1664525u + 1013904223u;
}

/* Noise: the hardest case for two implementations to agree on. */
static img_pixels
noise(int w, int h)
{
	img_pixels	p;

	img_alloc(&mr_env_malloc, w, h, &p, NULL);
	for (size_t i = 0; i < p.stride * (size_t) h; i++)
		p.data[i] = (uint8_t) (next() >> 24);
	return p;
}

static bool
same(const img_pixels *a, const img_pixels *b)
{
	if (a->width != b->width || a->height != b->height)
		return false;
	for (int y = 0; y < a->height; y++)
		if (memcmp(a->data + (size_t) y * a->stride, b->data + (size_t) y * b->stride, (size_t) a->width * 3) != 0)
			return false;
	return true;
}

/* Every instruction set gives the bits of the portable loops. */
static void
instruction_sets(void)
{
	const img_kernels *fast;
	int			different = 0,
				cases = 0;

	img_kernels_force(NULL);
	fast = img_kernels_best();
	if (fast == &img_kernels_portable)
	{
		skip("this machine runs the portable loops only");
		return;
	}
	for (int i = 0; i < 250; i++)
	{
		img_pixels	src = noise(1 + (int) (next() >> 16) % 150, 1 + (int) (next() >> 16) % 150);
		int			w = 1 + (int) (next() >> 16) % 200;
		int			h = 1 + (int) (next() >> 16) % 200;
		img_box_t	box = {0.3 * (src.width > 2), 0, src.width - 0.7 * (src.width > 2), src.height};
		img_pixels	a,
					b;
		img_prep	prep = {.width = w, .height = h, .bgr = i & 1, .scale = 1 / 255.0f,
		.mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}};
		float	   *fa = malloc(sizeof(float) * 3 * (size_t) (w * h));
		float	   *fb = malloc(sizeof(float) * 3 * (size_t) (w * h));

		img_kernels_force(fast);
		img_resize(&mr_env_malloc, &src, w, h, filters[i % 5], i % 3 ? NULL : &box, &a, NULL);
		img_pixels_to_tensor(&a, &prep, fa, NULL);
		img_kernels_force(&img_kernels_portable);
		img_resize(&mr_env_malloc, &src, w, h, filters[i % 5], i % 3 ? NULL : &box, &b, NULL);
		img_pixels_to_tensor(&b, &prep, fb, NULL);
		different += !same(&a, &b) || memcmp(fa, fb, sizeof(float) * 3 * (size_t) (w * h)) != 0;
		cases++;
		free(fa);
		free(fb);
		img_free(&mr_env_malloc, &a);
		img_free(&mr_env_malloc, &b);
		img_free(&mr_env_malloc, &src);
	}
	img_kernels_force(NULL);
	ok(different == 0, "%s equals portable in %d of %d random cases", fast->name, cases - different, cases);
}

static void
properties(void)
{
	static const int sizes[][4] = {{1, 1, 300, 200}, {300, 200, 1, 1}, {64, 48, 64, 48}, {1000, 3, 7, 200},
	{3, 1000, 200, 7}, {30, 6000, 6000, 1}, {6000, 30, 1, 6000}, {5, 5, 4, 6}};

	for (int f = 0; f < 5; f++)
	{
		int			wrong = 0;
		img_pixels	src,
					out;

		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		{
			meter		m = {0};
			mr_env		env = meter_env(&m);
			size_t		io = 3 * ((size_t) sizes[i][0] * (size_t) sizes[i][1] +
								  (size_t) sizes[i][2] * (size_t) sizes[i][3]);

			/* a flat image stays flat, whatever the weights' rounding */
			img_alloc(&mr_env_malloc, sizes[i][0], sizes[i][1], &src, NULL);
			memset(src.data, 201, src.stride * (size_t) src.height);
			wrong += img_resize(&env, &src, sizes[i][2], sizes[i][3], filters[f], NULL, &out, NULL) != MR_OK;
			for (size_t k = 0; k < out.stride * (size_t) out.height; k++)
				wrong += out.data[k] != 201;
			/* weights and band: bounded, whatever the proportions */
			wrong += m.peak > io + (16 << 20);
			img_free(&env, &out);
			wrong += m.used != 0;
			img_free(&mr_env_malloc, &src);
		}
		ok(wrong == 0, "%s: a flat image stays flat in bounded memory", filter_names[f]);

		src = noise(61, 43);
		img_resize(&mr_env_malloc, &src, 61, 43, filters[f], NULL, &out, NULL);
		ok(same(&src, &out), "%s: the same size changes nothing", filter_names[f]);
		img_free(&mr_env_malloc, &out);
		img_free(&mr_env_malloc, &src);
	}
}

/* The window of a plan equals the crop of the whole; so does a strip. */
static void
windows(void)
{
	img_pixels	src = noise(311, 207);
	img_pixels	whole,
				part;
	img_plan	plan;
	int			wrong = 0;

	img_fit(&mr_env_malloc, &src, 96, 96, img_fit_resize_crop, 128, img_bicubic, 0, &part, NULL);
	img_plan_fit(311, 207, 96, 96, img_fit_resize_crop, 128, &plan);
	ok(plan.full_w == 192 && plan.full_h == 128 && plan.win_x == 48 && plan.win_y == 16,
	   "resize 128, crop 96 of 311x207 is 192x128 at 48,16 (%dx%d at %d,%d)", plan.full_w, plan.full_h, plan.win_x, plan.win_y);
	img_resize(&mr_env_malloc, &src, plan.full_w, plan.full_h, img_bicubic, NULL, &whole, NULL);
	for (int y = 0; y < 96; y++)
		wrong += memcmp(part.data + (size_t) y * part.stride,
						whole.data + (size_t) (y + plan.win_y) * whole.stride + (size_t) plan.win_x * 3, 96 * 3) != 0;
	ok(wrong == 0, "the window equals the crop of the whole");
	img_free(&mr_env_malloc, &whole);
	img_free(&mr_env_malloc, &part);

	/* letterbox: bars where they belong, the image between them */
	wrong = 0;
	img_fit(&mr_env_malloc, &src, 100, 100, img_fit_contain, 0, img_bilinear, 114, &part, NULL);
	img_plan_fit(311, 207, 100, 100, img_fit_contain, 0, &plan);
	ok(plan.full_w == 100 && plan.full_h == 67 && plan.put_y == 16, "contain 100 of 311x207: 100x%d at %d",
	   plan.full_h, plan.put_y);
	img_resize(&mr_env_malloc, &src, 100, 67, img_bilinear, NULL, &whole, NULL);
	for (int y = 0; y < 100; y++)
		for (int x = 0; x < 300; x++)
		{
			int			in = y - plan.put_y;

			wrong += part.data[(size_t) y * part.stride + (size_t) x] !=
				(in < 0 || in >= 67 ? 114 : whole.data[(size_t) in * whole.stride + (size_t) x]);
		}
	ok(wrong == 0, "letterbox: %d wrong bytes", wrong);
	img_free(&mr_env_malloc, &whole);
	img_free(&mr_env_malloc, &part);

	img_plan_fit(400, 300, 200, 200, img_fit_cover, 0, &plan);
	ok(plan.box.x0 == 50 && plan.box.x1 == 350 && plan.box.y0 == 0 && plan.box.y1 == 300, "cover: the centre square");
	img_plan_fit(10, 10, 30, 20, img_fit_resize_crop, 10, &plan);
	ok(plan.put_x == 10 && plan.put_y == 5 && plan.win_w == 10 && plan.win_h == 10, "a crop larger than the image is padded");
	img_free(&mr_env_malloc, &src);
}

static void
tensors(void)
{
	img_pixels	src = noise(33, 5);
	img_prep	prep = {.width = 33, .height = 5, .scale = 1, .mean = {104, 117, 123}, .std = {1, 2, 3}, .bgr = true};
	float		out[3 * 33 * 5];
	int			wrong = 0;
	mr_status	st = {0};

	img_pixels_to_tensor(&src, &prep, out, &st);
	for (int c = 0; c < 3; c++)
		for (int i = 0; i < 33 * 5; i++)
			wrong += out[c * 165 + i] != ((float) src.data[3 * i + 2 - c] - prep.mean[c]) / prep.std[c];
	ok(wrong == 0, "BGR: blue plane first, with the first mean and std");
	prep.grey = true;
	wrong = 0;
	img_pixels_to_tensor(&src, &prep, out, &st);
	for (int i = 0; i < 165; i++)
	{
		double		luma = 0.299 * src.data[3 * i] + 0.587 * src.data[3 * i + 1] + 0.114 * src.data[3 * i + 2];

		wrong += !(out[i] + 104 > luma - 0.51 && out[i] + 104 < luma + 0.51);
	}
	ok(wrong == 0 && img_prep_channels(&prep) == 1, "grey: one plane of luma");
	prep.std[0] = 0;
	ok(img_check_prep(&prep, &test_limits, &st) == MR_INVALID, "std 0: %s", st.message);
	prep.std[0] = 1;
	prep.width = 0;
	ok(img_check_prep(&prep, &test_limits, &st) == MR_INVALID, "width 0: %s", st.message);
	prep.width = 34;
	ok(img_pixels_to_tensor(&src, &prep, out, &st) == MR_INVALID, "other size: %s", st.message);
	img_free(&mr_env_malloc, &src);
}

static void
arguments(void)
{
	img_pixels	src = noise(10, 10);
	img_pixels	out;
	img_box_t	boxes[] = {{-1, 0, 5, 5}, {0, 0, 11, 5}, {5, 5, 5, 6}, {0.0 / 0.0, 0, 5, 5}};
	mr_status	st = {0};
	int			wrong = 0;
	img_filter	filter;
	img_fit_mode fit;

	for (size_t i = 0; i < sizeof(boxes) / sizeof(boxes[0]); i++)
		wrong += img_resize(&mr_env_malloc, &src, 4, 4, img_box, &boxes[i], &out, &st) != MR_INVALID;
	ok(wrong == 0, "a part outside the image: %s", st.message);
	ok(img_resize(&mr_env_malloc, &src, 0, 4, img_box, NULL, &out, &st) == MR_INVALID, "%s", st.message);
	ok(img_filter_by_name("lanczos", &filter) && filter == img_lanczos && !img_filter_by_name("cubic", &filter) &&
	   img_fit_by_name("resize_crop", &fit) && fit == img_fit_resize_crop && !img_fit_by_name("", &fit), "names");
	img_free(&mr_env_malloc, &src);
}

int
main(void)
{
	instruction_sets();
	properties();
	windows();
	tensors();
	arguments();
	return done_testing();
}
