/*
 * test_image_jpeg.c
 *	  Every kind of JPEG, orientation, DCT scales; damage, bombs and failures.
 */
#include "image_make.h"

/* Mean difference between an image and make_pixel() seen through orientation 1. */
static double
difference(const img_pixels *p, int w, int h, bool grey)
{
	double		sum = 0;

	for (int y = 0; y < p->height; y++)
		for (int x = 0; x < p->width; x++)
			for (int c = 0; c < 3; c++)
			{
				uint8_t		rgb[3];

				make_pixel(x * w / p->width, y * h / p->height, w, h, rgb);
				sum += abs(p->data[(size_t) y * p->stride + (size_t) x * 3 + (size_t) c] - rgb[grey ? 0 : c]);
			}
	return sum / (p->width * p->height * 3.0);
}

static void
kinds(void)
{
	static const struct
	{
		const char *name;
		jpeg_options o;
		double		most;
	}			kind[] = {
		{"baseline 4:2:0", {0}, 8},
		{"baseline 4:4:4", {.full_chroma = true}, 8},
		{"progressive", {.progressive = true}, 8},
		{"arithmetic coding", {.arithmetic = true}, 8},
		{"arithmetic coding, progressive", {.arithmetic = true, .progressive = true}, 8},
		{"grey", {.components = 1}, 3},
		{"CMYK of Adobe", {.components = 4}, 8},
		{"CMYK not inverted", {.components = 4, .no_adobe = true}, 8},
		{"YCCK", {.components = 4, .ycck = true}, 8},
		{"CMYK progressive", {.components = 4, .progressive = true}, 8},
	};

	for (size_t i = 0; i < sizeof(kind) / sizeof(kind[0]); i++)
	{
		bytes		b = make_jpeg(117, 83, &kind[i].o);
		img_info	info;
		img_pixels	p;
		mr_status	st = {0};
		int			n = kind[i].o.components ? kind[i].o.components : 3;

		ok(img_probe(&mr_env_malloc, b.data, b.len, &test_limits, &info, &st) == MR_OK &&
		   strcmp(info.format, "jpeg") == 0 && info.width == 117 && info.height == 83 &&
		   info.channels == n && info.bit_depth == 8 && info.orientation == 1, "%s: probe", kind[i].name);
		img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st);
		if (ok(p.data && p.width == 117 && p.height == 83, "%s: decode %s", kind[i].name, st.message))
			ok(difference(&p, 117, 83, n == 1) < kind[i].most, "%s: colours, mean difference %.2f",
			   kind[i].name, difference(&p, 117, 83, n == 1));
		img_free(&mr_env_malloc, &p);
		free(b.data);
	}
}

/* Stored pixel of each seen corner, by orientation: 0 top left, 1 top right,
 * 2 bottom right, 3 bottom left; seen order the same. */
static void
orientations(void)
{
	static const int corner[9][4] = {{0}, {0, 1, 2, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}, {3, 2, 1, 0},
	{0, 3, 2, 1}, {3, 0, 1, 2}, {2, 1, 0, 3}, {1, 2, 3, 0}};

	for (int o = 1; o <= 8; o++)
		for (int big = 0; big < 2; big++)
		{
			jpeg_options opt = {.orientation = o, .big_endian = big, .full_chroma = true};
			int			w = 160,
						h = 96;
			bytes		b = make_jpeg(w, h, &opt);
			img_info	info;
			img_pixels	p,
						small;
			bool		same = true;
			mr_status	st = {0};

			img_probe(&mr_env_malloc, b.data, b.len, &test_limits, &info, &st);
			ok(info.orientation == o && info.width == w && info.height == h,
			   "orientation %d %s: probe as stored", o, big ? "MM" : "II");
			if (img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st) != MR_OK)
			{
				ok(false, "orientation %d: %s", o, st.message);
				continue;
			}
			ok(p.width == (o > 4 ? h : w) && p.height == (o > 4 ? w : h), "orientation %d: size", o);
			for (int k = 0; k < 4; k++)
			{
				/* a pixel a little inside the corner, seen */
				int			x = k == 0 || k == 3 ? 2 : p.width - 3;
				int			y = k < 2 ? 2 : p.height - 3;
				const uint8_t *seen = p.data + (size_t) y * p.stride + (size_t) x * 3;
				int			s = corner[o][k];
				uint8_t		stored[3];

				make_pixel(s == 0 || s == 3 ? 2 : w - 3, s < 2 ? 2 : h - 3, w, h, stored);
				for (int c = 0; c < 3; c++)
					same = same && abs(seen[c] - stored[c]) < 12;
			}
			ok(same, "orientation %d: corners", o);

			/* a target that only covers when sides are swapped rightly */
			ok(img_decode(&mr_env_malloc, b.data, b.len, &test_limits, o > 4 ? 48 : 80, o > 4 ? 80 : 48,
						  &small, &st) == MR_OK && small.width == (o > 4 ? 48 : 80) &&
			   small.height == (o > 4 ? 80 : 48), "orientation %d: half size covers", o);
			img_free(&mr_env_malloc, &small);
			img_free(&mr_env_malloc, &p);
			free(b.data);
		}
}

static void
scales(void)
{
	jpeg_options opt = {0};
	bytes		b = make_jpeg(403, 301, &opt);
	static const int targets[][4] = {{50, 37, 51, 38}, {51, 38, 51, 38}, {52, 38, 101, 76}, {10, 10, 51, 38},
	{200, 150, 202, 151}, {203, 10, 403, 301}, {4000, 4000, 403, 301}, {403, 301, 403, 301}};

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
	{
		img_pixels	p;
		mr_status	st = {0};

		img_decode(&mr_env_malloc, b.data, b.len, &test_limits, targets[i][0], targets[i][1], &p, &st);
		ok(p.width == targets[i][2] && p.height == targets[i][3], "target %dx%d of 403x301 decodes at %dx%d",
		   targets[i][0], targets[i][1], p.width, p.height);
		img_free(&mr_env_malloc, &p);
	}
	free(b.data);
}

/* Cut at every length and flipped at every byte: an image or a clean error. */
static void
damage(void)
{
	for (int prog = 0; prog < 2; prog++)
	{
		jpeg_options opt = {.progressive = prog, .quality = 60, .orientation = 6};
		bytes		b = make_jpeg(48, 40, &opt);
		int			wrong = 0;
		int			good = 0,
					bad = 0,
					other = 0;

		for (size_t len = 0; len < b.len; len++)
		{
			uint8_t    *cut = malloc(len ? len : 1);	/* exact size: ASan sees over-reads */
			img_pixels	p;
			mr_status	st = {0};

			memcpy(cut, b.data, len);
			if (img_decode(&mr_env_malloc, cut, len, &test_limits, 0, 0, &p, &st) != MR_INVALID ||
				st.message[0] == '\0' || p.data != NULL)
				wrong++;
			img_free(&mr_env_malloc, &p);
			free(cut);
		}
		ok(wrong == 0, "%s: all %zu shorter files are refused (%d not)",
		   prog ? "progressive" : "baseline", b.len, wrong);

		for (size_t at = 0; at < b.len; at++)
			for (int bit = 0; bit < 8; bit += 3)
			{
				img_pixels	p;
				mr_status	st = {0};
				mr_code		code;

				b.data[at] ^= (uint8_t) (1 << bit);
				code = img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st);
				good += code == MR_OK;
				bad += code == MR_INVALID;
				other += code != MR_OK && code != MR_INVALID;
				img_free(&mr_env_malloc, &p);
				b.data[at] ^= (uint8_t) (1 << bit);
			}
		ok(other == 0, "%s: flipped bits give %d images and %d refusals", prog ? "progressive" : "baseline", good, bad);
		free(b.data);
	}
}

/* Few bytes, much work: many scans of a progressive file, valid and not. */
static void
scan_bombs(void)
{
	jpeg_options opt = {.many_scans = true, .components = 1, .quality = 50};
	bytes		b = make_jpeg(512, 512, &opt);
	bytes		bomb = {NULL, 0};
	img_limits	wide = test_limits;
	img_pixels	p;
	mr_code		code;
	mr_status	st = {0};

	code = img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st);
	ok(code == MR_INVALID && strstr(st.message, "more than 100 scans"), "253 scans: %s", st.message);
	wide.max_scans = 253;
	code = img_decode(&mr_env_malloc, b.data, b.len, &wide, 0, 0, &p, &st);
	ok(code == MR_OK, "253 scans where they are allowed");
	img_free(&mr_env_malloc, &p);

	add(&bomb, b.data, b.len - 2);
	for (int i = 0; i < 10000; i++)
	{
		/* a refinement of the first coefficient, without data */
		static const uint8_t scan[] = {0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0x10, 0};

		add(&bomb, scan, sizeof(scan));
	}
	add(&bomb, "\xFF\xD9", 2);
	wide.max_scans = 20000;
	code = img_decode(&mr_env_malloc, bomb.data, bomb.len, &test_limits, 0, 0, &p, &st);
	ok(code == MR_INVALID && strstr(st.message, "scans"), "10,000 scans: %s", st.message);
	code = img_decode(&mr_env_malloc, bomb.data, bomb.len, &wide, 0, 0, &p, &st);
	ok(code == MR_INVALID, "10,000 scans, no limit: %s", st.message);
	free(bomb.data);
	free(b.data);
}

static void
refusals(void)
{
	jpeg_options opt = {0};
	bytes		b = make_jpeg(64, 64, &opt);
	img_limits	tight = test_limits;
	img_pixels	p;
	img_info	info;
	mr_status	st = {0};
	size_t		sof = 0;

	for (size_t i = 2; i + 1 < b.len && !sof; i++)
		if (b.data[i] == 0xFF && b.data[i + 1] == 0xC0)
			sof = i;
	tight.max_pixels = 64 * 64 - 1;
	ok(img_decode(&mr_env_malloc, b.data, b.len, &tight, 0, 0, &p, &st) == MR_INVALID && strstr(st.message, "too large"),
	   "too many pixels: %s", st.message);
	tight = test_limits;
	tight.max_bytes = b.len - 1;
	ok(img_probe(&mr_env_malloc, b.data, b.len, &tight, &info, &st) == MR_INVALID && strstr(st.message, "bytes"),
	   "too many bytes: %s", st.message);
	b.data[sof + 4] = 12;
	ok(img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st) == MR_INVALID && strstr(st.message, "12 bits"),
	   "12 bits: %s", st.message);
	b.data[sof + 4] = 8;
	b.data[sof + 1] = 0xC3;
	ok(img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st) == MR_INVALID &&
	   strstr(st.message, "process 3"), "lossless: %s", st.message);
	b.data[sof + 1] = 0xC0;
	b.data[sof + 5] = b.data[sof + 6] = 0;
	ok(img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st) == MR_INVALID, "height 0: %s", st.message);
	b.data[sof + 5] = b.data[sof + 6] = b.data[sof + 7] = b.data[sof + 8] = 0xFF;
	ok(img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st) == MR_INVALID, "65535 x 65535: %s", st.message);
	ok(img_decode(&mr_env_malloc, (const uint8_t *) "GIF89a", 6, &test_limits, 0, 0, &p, &st) == MR_INVALID &&
	   strstr(st.detail, "GIF"), "GIF: %s. %s", st.message, st.detail);
	ok(img_decode(&mr_env_malloc, NULL, 0, &test_limits, 0, 0, &p, &st) == MR_INVALID, "nothing: %s", st.message);
	free(b.data);
}

/* Each allocation refused once, and a stop at each question: no leak, clean code. */
static void
failures(void)
{
	jpeg_options opt = {.progressive = true, .components = 4, .orientation = 7};
	bytes		b = make_jpeg(200, 150, &opt);
	img_prep	prep = {.width = 40, .height = 30, .fit = img_fit_cover, .filter = img_bilinear,
	.scale = 1, .std = {1, 1, 1}};
	static float out[3 * 40 * 30];
	meter		m = {0};
	mr_env		env = meter_env(&m);
	mr_status	st = {0};
	long		allocs,
				asked;
	int			wrong = 0;

	img_to_tensor(&env, b.data, b.len, &test_limits, &prep, out, &st);
	ok(st.code == MR_OK && m.used == 0, "tensor of a turned CMYK image: peak %zu bytes, none left", m.peak);
	allocs = m.allocs;
	asked = m.asked;
	for (long k = 1; k <= allocs; k++)
	{
		m = (meter) {.refuse_at = k};
		wrong += img_to_tensor(&env, b.data, b.len, &test_limits, &prep, out, &st) != MR_NOMEM || m.used != 0;
	}
	ok(wrong == 0, "%ld allocations refused one by one", allocs);
	wrong = 0;
	for (long k = 1; k <= asked; k++)
	{
		m = (meter) {.stop_at = k};
		wrong += img_to_tensor(&env, b.data, b.len, &test_limits, &prep, out, &st) != MR_CANCELED || m.used != 0;
	}
	ok(asked > 20 && wrong == 0, "stopped at each of %ld looks at interrupts", asked);
	free(b.data);
}

static void
round_trip(void)
{
	jpeg_options opt = {0};
	bytes		b = make_jpeg(120, 90, &opt);
	img_pixels	p,
				again;
	uint8_t    *file;
	size_t		len;
	mr_status	st = {0};
	meter		m = {0};
	mr_env		env = meter_env(&m);
	long		allocs;
	int			wrong = 0;

	img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st);
	for (int q = 1; q <= 100; q += 33)
	{
		img_encode_jpeg(&env, &p, q, &file, &len, &st);
		ok(img_decode(&mr_env_malloc, file, len, &test_limits, 0, 0, &again, &st) == MR_OK &&
		   again.width == 120 && again.height == 90, "quality %d: %zu bytes and back", q, len);
		img_free(&mr_env_malloc, &again);
		env.release(env.arg, file);
	}
	ok(img_encode_jpeg(&env, &p, 0, &file, &len, &st) == MR_INVALID, "quality 0: %s", st.message);
	m = (meter) {0};
	img_encode_png(&env, &p, &file, &len, &st);
	ok(img_decode(&mr_env_malloc, file, len, &test_limits, 0, 0, &again, &st) == MR_OK &&
	   memcmp(again.data, p.data, p.stride * 90) == 0, "PNG keeps every pixel");
	img_free(&mr_env_malloc, &again);
	env.release(env.arg, file);
	allocs = m.allocs;
	for (long k = 1; k <= allocs; k++)
	{
		m = (meter) {.refuse_at = k};
		wrong += img_encode_png(&env, &p, &file, &len, &st) != MR_NOMEM || m.used != 0;
	}
	m = (meter) {.refuse_at = 1};
	wrong += img_encode_jpeg(&env, &p, 90, &file, &len, &st) != MR_NOMEM || m.used != 0;
	ok(wrong == 0, "encoders without memory");
	img_free(&mr_env_malloc, &p);
	free(b.data);
}

int
main(void)
{
	kinds();
	orientations();
	scales();
	damage();
	scan_bombs();
	refusals();
	failures();
	round_trip();
	return done_testing();
}
