/*
 * test_image_facts.c
 *	  Hashes, figures and traces of damage: properties that must hold exactly,
 *	  and damage made on purpose.  (Against imagehash, OpenCV and NumPy on real
 *	  photos: t/test_image_facts.py.)
 */
#include <math.h>

#include "image_make.h"
#include "image/facts.h"
#include "image/image_private.h"

static uint32_t seed = 1;

static int
draw(int n)
{
	seed = seed * 1664525u + 1013904223u;
	return (int) ((seed >> 8) % (uint32_t) n);
}

static img_pixels
blank(int w, int h, uint8_t level)
{
	img_pixels	p;

	img_alloc(&mr_env_malloc, w, h, &p, NULL);
	memset(p.data, level, p.stride * (size_t) h);
	return p;
}

static uint8_t *
at(const img_pixels *p, int x, int y)
{
	return p->data + (size_t) y * p->stride + (size_t) x * 3;
}

/* Overlapping discs of random colours: edges and even parts, as photos have them. */
static img_pixels
scene(int w, int h)
{
	img_pixels	p = blank(w, h, (uint8_t) (40 + draw(170)));

	for (int k = 0; k < 60; k++)
	{
		int			cx = draw(w),
					cy = draw(h),
					r = 2 + draw(2 + (w < h ? w : h) / 6);
		uint8_t		c[3] = {(uint8_t) (30 + draw(220)), (uint8_t) (30 + draw(220)), (uint8_t) (30 + draw(220))};

		for (int y = 0; y < h; y++)
			for (int x = 0; x < w; x++)
				if ((x - cx) * (x - cx) + (y - cy) * (y - cy) < r * r)
					memcpy(at(&p, x, y), c, 3);
	}
	return p;
}

/* Through a JPEG file, as data sets keep their images. */
static void
as_jpeg(img_pixels *p, int quality)
{
	uint8_t    *file;
	size_t		len;

	img_encode_jpeg(&mr_env_malloc, p, quality, &file, &len, NULL);
	img_free(&mr_env_malloc, p);
	img_decode(&mr_env_malloc, file, len, &test_limits, 0, 0, p, NULL);
	mr_free(&mr_env_malloc, file);
}

static img_facts
facts_of(img_pixels *p)
{
	img_facts	f;
	mr_status	st;

	if (img_facts_of(&mr_env_malloc, p, &f, &st) != MR_OK)
		abort();
	img_free(&mr_env_malloc, p);
	return f;
}

/* One transform gives the hashes of all eight positions, bit for bit. */
static void
turned_hashes(void)
{
	int			wrong = 0;

	for (int round = 0; round < 200; round++)
	{
		uint8_t		luma[32][32];
		uint64_t	hash[8];

		for (int y = 0; y < 32; y++)
			for (int x = 0; x < 32; x++)
				luma[y][x] = (uint8_t) (round % 2 ? draw(256) : (x * (1 + draw(3)) + y * 5 + draw(20)) & 255);
		img_hash_of_luma(&luma[0][0], hash);
		for (int k = 0; k < 8; k++)
		{
			uint8_t		seen[32][32];
			uint64_t	direct[8];

			for (int y = 0; y < 32; y++)
				for (int x = 0; x < 32; x++)
				{
					int			sx = k & 1 ? 31 - x : x,
								sy = k & 2 ? 31 - y : y;

					seen[y][x] = k & 4 ? luma[sx][sy] : luma[sy][sx];
				}
			img_hash_of_luma(&seen[0][0], direct);
			wrong += direct[0] != hash[k];
		}
	}
	ok(wrong == 0, "hashes of mirrored and turned images come of one transform (%d of 1600 differ)", wrong);
}

static void
flat_images(void)
{
	img_pixels	p = blank(300, 200, 117);
	img_facts	f = facts_of(&p);
	float		most = 0;

	for (int i = 0; i < IMG_THUMB_LEN; i++)
		most = fmaxf(most, fabsf(f.thumbnail[i]));
	ok(f.hash[0] == UINT64_C(1) << 63 && f.hash[5] == f.hash[0], "an even colour has a hash of one bit");
	ok(most == 0, "and a thumbnail of zeros");
	ok(f.figures.brightness == 117 && f.figures.contrast == 0 && f.figures.entropy == 0 && f.figures.colourfulness == 0 &&
	   f.sharpness == 0 && f.black_corners == 0 && f.repeated == 0 && f.grey, "and no contrast, entropy, colour, detail or damage");
	p = blank(300, 200, 0);
	f = facts_of(&p);
	ok(f.hash[0] == 0 && f.figures.dark_share == 1 && f.figures.bright_share == 0, "black is dark");
	p = blank(300, 200, 255);
	f = facts_of(&p);
	ok(f.figures.dark_share == 0 && f.figures.bright_share == 1, "white is bright");
}

static void
known_figures(void)
{
	img_pixels	p = blank(64, 64, 0);
	img_facts	f;
	int16_t    *laplacian;
	uint8_t		dot[9] = {0, 0, 0, 0, 10, 0, 0, 0, 0};

	for (int y = 0; y < 32; y++)
		memset(at(&p, 0, y), 255, p.stride);
	f = facts_of(&p);
	ok(f.figures.brightness == 127.5f && f.figures.contrast == 127.5f && f.figures.entropy == 1 &&
	   f.figures.dark_share == 0.5f && f.figures.bright_share == 0.5f, "half black, half white");
	p = blank(50, 40, 0);
	for (int y = 0; y < 40; y++)
		for (int x = 0; x < 50; x++)
			at(&p, x, y)[0] = 255;
	f = facts_of(&p);
	ok(fabs(f.figures.colourfulness - 0.3 * hypot(255, 127.5)) < 1e-3 && !f.grey, "red: colourfulness %.3f", f.figures.colourfulness);
	ok(img_laplacian(&mr_env_malloc, dot, 3, 3, &laplacian, NULL) == MR_OK && laplacian[4] == -40 && laplacian[1] == 20 &&
	   laplacian[0] == 0, "the Laplacian of a dot, its border mirrored");
	mr_free(&mr_env_malloc, laplacian);
}

/* Photos of more than IMG_SAMPLED_PIXELS are sampled: nearly the same figures. */
static void
sampling(void)
{
	img_pixels	p = scene(1200, 900);
	img_pixels	quarter;
	img_facts	large,
				small;

	img_resize(&mr_env_malloc, &p, 400, 300, img_nearest, NULL, &quarter, NULL);
	large = facts_of(&p);
	small = facts_of(&quarter);
	ok(fabsf(large.figures.brightness - small.figures.brightness) < 1 && fabsf(large.figures.contrast - small.figures.contrast) < 1 &&
	   fabsf(large.figures.entropy - small.figures.entropy) < 0.1f && fabsf(large.figures.colourfulness - small.figures.colourfulness) < 1,
	   "a large image's figures are a small one's");
	ok(img_hash_distance(large.hash[0], small.hash[0]) <= 4, "and so is its hash: %d bits", img_hash_distance(large.hash[0], small.hash[0]));
}

static void
digests(void)
{
	img_pixels	a = blank(20, 10, 9),
				b = blank(10, 20, 9),
				c = blank(20, 10, 9),
				d = blank(20, 10, 9);
	img_facts	f[4];

	at(&d, 19, 9)[2] ^= 1;
	f[0] = facts_of(&a);
	f[1] = facts_of(&b);
	f[2] = facts_of(&c);
	f[3] = facts_of(&d);
	ok(memcmp(f[0].digest, f[2].digest, 32) == 0 && memcmp(f[0].digest, f[1].digest, 32) != 0 &&
	   memcmp(f[0].digest, f[3].digest, 32) != 0, "digests tell sizes and single bits apart");
}

/* Every size works, and no figure leaves its range. */
static void
odd_sizes(void)
{
	static const int sizes[][2] = {{1, 1}, {1, 2}, {2, 1}, {3, 3}, {7, 9}, {1, 5000}, {5000, 1}, {16384, 2}, {11, 4000}, {240, 240},
	{241, 240}, {240, 1000}, {31, 33}, {2000, 12}};
	int			wrong = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		img_pixels	p = blank(sizes[i][0], sizes[i][1], 0);
		img_facts	f;

		for (size_t k = 0; k < p.stride * (size_t) p.height; k++)
			p.data[k] = (uint8_t) draw(256);
		f = facts_of(&p);
		wrong += !(f.figures.brightness >= 0 && f.figures.brightness <= 255 && f.figures.contrast >= 0 && f.figures.contrast <= 127.5f &&
				   f.figures.entropy >= 0 && f.figures.entropy <= 8 && f.figures.colourfulness >= 0 && f.sharpness >= 0 &&
				   f.black_corners >= 0 && f.black_corners <= 1 && f.repeated >= 0 && f.repeated <= 1);
	}
	ok(wrong == 0, "noise of every size has figures within their ranges");
}

/* The source turned by `degrees` about its centre on its own canvas, bilinear, the rest filled. */
static img_pixels
rotated(const img_pixels *src, double degrees, const uint8_t fill[3])
{
	img_pixels	p = blank(src->width, src->height, 0);
	double		c = cos(degrees * M_PI / 180),
				s = sin(degrees * M_PI / 180);

	for (int y = 0; y < p.height; y++)
		for (int x = 0; x < p.width; x++)
		{
			double		dx = x + 0.5 - p.width / 2.0,
						dy = y + 0.5 - p.height / 2.0;
			double		sx = c * dx - s * dy + p.width / 2.0 - 0.5,
						sy = s * dx + c * dy + p.height / 2.0 - 0.5;
			int			ix = (int) floor(sx),
						iy = (int) floor(sy);

			for (int ch = 0; ch < 3; ch++)
			{
				double		v = 0;

				for (int k = 0; k < 4; k++)
				{
					int			px = ix + k % 2,
								py = iy + k / 2;
					bool		in = px >= 0 && py >= 0 && px < src->width && py < src->height;

					v += (in ? at(src, px, py)[ch] : fill[ch]) * (k % 2 ? sx - ix : 1 - sx + ix) * (k / 2 ? sy - iy : 1 - sy + iy);
				}
				at(&p, x, y)[ch] = (uint8_t) lrint(v);
			}
		}
	return p;
}

static void
empty_corners(void)
{
	static const uint8_t fills[3][3] = {{0, 0, 0}, {255, 255, 255}, {114, 114, 114}};
	static const int sizes[4][2] = {{640, 480}, {300, 300}, {96, 96}, {32, 32}};
	int			black = 0,
				other = 0,
				false_ones = 0;

	for (int round = 0; round < 240; round++)
	{
		const int  *size = sizes[round % 4];
		img_pixels	src = scene(size[0], size[1]);
		/* in the smallest, less than 8 degrees is a row of pixels */
		double		least = size[0] < 100 ? 8 : 3;
		double		degrees = (least + draw(30 - (int) least)) * (round % 2 ? 1 : -1);
		img_pixels	p = rotated(&src, degrees, fills[round / 4 % 3]);

		if (round % 3)
			as_jpeg(&p, 75 + draw(20));
		if (round / 4 % 3 == 0)
			black += facts_of(&p).black_corners > 0.005f;
		else if (size[0] >= 300)
			other += facts_of(&p).black_corners > 0.005f;
		else
			img_free(&mr_env_malloc, &p);
		false_ones += facts_of(&src).black_corners > 0;
	}
	ok(black >= 76, "corners that rotation left black: %d of 80 found", black);
	/* grey on grey is not to be seen */
	ok(other >= 68, "white or grey: %d of 80", other);
	ok(false_ones == 0, "none in 240 images as they were");
}

/* What is dark or even in corners without having been rotated. */
static void
whole_corners(void)
{
	img_pixels	letterbox = scene(320, 240),
				vignette = scene(320, 240),
				product = blank(300, 300, 255);

	for (int y = 0; y < 240; y++)
		for (int x = 0; x < 320; x++)
		{
			double		r = hypot((x - 160) / 160.0, (y - 120) / 120.0);
			double		light = r < 0.7 ? 1 : r > 1.35 ? 0 : (1.35 - r) / 0.65;

			for (int c = 0; c < 3; c++)
				at(&vignette, x, y)[c] = (uint8_t) (at(&vignette, x, y)[c] * light);
			if (y < 30 || y >= 210)
				memset(at(&letterbox, x, y), 0, 3);
		}
	for (int y = 0; y < 300; y++)
		for (int x = 0; x < 300; x++)
			if (hypot(x - 150, y - 150) < 149)
				memset(at(&product, x, y), 60, 3);
	as_jpeg(&vignette, 90);
	ok(facts_of(&letterbox).black_corners == 0, "a letterbox has no empty triangles");
	ok(facts_of(&vignette).black_corners == 0, "nor has a vignette");
	ok(facts_of(&product).black_corners == 0, "nor a disc on white");
}

/* cols x rows tiles; each is one of `kinds` scenes. */
static img_pixels
mosaic(int side, int cols, int rows, const int *which, int kinds)
{
	img_pixels	p = blank(side * cols, side * rows, 0);
	img_pixels	tile[16];

	for (int i = 0; i < kinds; i++)
		tile[i] = scene(side, side);
	for (int t = 0; t < cols * rows; t++)
		for (int y = 0; y < side; y++)
			memcpy(at(&p, t % cols * side, t / cols * side + y), at(&tile[which[t]], 0, y), (size_t) side * 3);
	for (int i = 0; i < kinds; i++)
		img_free(&mr_env_malloc, &tile[i]);
	return p;
}

static void
copied_tiles(void)
{
	static const int all[16] = {0},
				two[4] = {0, 1, 2, 0},
				none[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
	static const int sides[5] = {320, 107, 160, 64, 16};
	int			wrong = 0,
				half = 0,
				false_ones = 0;
	img_pixels	p;

	for (int round = 0; round < 40; round++)
	{
		int			side = sides[round % 5];
		int			cols = side == 16 ? 2 : 2 + draw(3);

		p = mosaic(side, cols, cols, all, 1);
		if (round % 2)
			as_jpeg(&p, 80);
		wrong += facts_of(&p).repeated < 0.9f;
		p = mosaic(side, 2, 2, two, 3);
		half += facts_of(&p).repeated >= 0.5f;
		p = mosaic(side, 3, 3, none, 9);
		false_ones += facts_of(&p).repeated > 0;
		p = scene(side * 2, side);
		false_ones += facts_of(&p).repeated > 0;
	}
	ok(wrong <= 1, "mosaics of one image are found (%d of 40 are not)", wrong);
	ok(half == 40, "and of two equal tiles in four (%d of 40)", half);
	ok(false_ones == 0, "mosaics of different images, and single ones, are none (%d of 80)", false_ones);
	p = blank(300, 300, 0);
	for (int y = 0; y < 300; y++)
		for (int x = 0; x < 300; x++)
			memset(at(&p, x, y), y * 255 / 299, 3);
	ok(facts_of(&p).repeated == 0, "a sky is no mosaic, though its halves are equal");
}

static int	countdown;

static bool
stop_soon(void *arg)
{
	return --countdown < 0;
}

static void
interrupts(void)
{
	mr_env		env = mr_env_malloc;
	img_pixels	p = scene(700, 3000);
	img_facts	f;
	mr_status	st;
	int			stopped = 0,
				n = 0;

	env.interrupted = stop_soon;
	do
	{
		countdown = n++;
		if (img_facts_of(&env, &p, &f, &st) != MR_CANCELED)
			break;
		stopped++;
	} while (n < 1000);
	ok(stopped > 20 && n < 1000, "canceled at each of %d places, nothing leaked", stopped);
	img_free(&mr_env_malloc, &p);
}

int
main(void)
{
	turned_hashes();
	flat_images();
	known_figures();
	sampling();
	digests();
	odd_sizes();
	empty_corners();
	whole_corners();
	copied_tiles();
	interrupts();
	return done_testing();
}
