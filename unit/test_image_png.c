/*
 * test_image_png.c
 *	  Every kind of PNG against values worked out here; bombs, damage, failures.
 */
#include "image_make.h"

static int	depth_now;

static unsigned
any_value(int x, int y, int c)
{
	return (unsigned) (x * 31 + y * 17 + c * 101 + (x * y) * 7) * 2654435761u >> (32 - depth_now);
}

/* What a decoder should show: 8 bits, over white. */
static void
expected(int x, int y, int depth, int type, bool transparent, uint8_t rgb[3])
{
	unsigned	v[4] = {0, 0, 0, 255};
	unsigned	most = (1u << depth) - 1;
	static const int channels[7] = {1, 0, 3, 1, 2, 0, 4};
	bool		key = true;

	for (int c = 0; c < channels[type]; c++)
	{
		unsigned	raw = any_value(x, y, c);

		if (type == PNG_COLOR_TYPE_PALETTE)
		{
			v[0] = (uint8_t) (raw * 7);
			v[1] = (uint8_t) (255 - raw * 3);
			v[2] = (uint8_t) (raw * 11);
			v[3] = transparent && raw < 8 ? 255 - raw * 16 : 255;
			key = false;
			break;
		}
		key = key && raw == 1;
		v[channels[type] <= 2 && c == 1 ? 3 : c] = (unsigned) (((unsigned long) raw * 255 + most / 2) / most);
	}
	if (channels[type] <= 2 && type != PNG_COLOR_TYPE_PALETTE)
		v[1] = v[2] = v[0];
	if (transparent && key)
		v[3] = 0;
	for (int c = 0; c < 3; c++)
		rgb[c] = (uint8_t) ((v[c] * v[3] + 255 * (255 - v[3]) + 127) / 255);
}

static void
kinds(void)
{
	static const int kind[][2] = {{0, 1}, {0, 2}, {0, 4}, {0, 8}, {0, 16}, {2, 8}, {2, 16}, {3, 1}, {3, 2}, {3, 4},
	{3, 8}, {4, 8}, {4, 16}, {6, 8}, {6, 16}};
	static const char *const names[] = {"grey", "", "RGB", "palette", "grey+alpha", "", "RGBA"};
	static const int channels[7] = {1, 0, 3, 1, 2, 0, 4};

	for (size_t i = 0; i < sizeof(kind) / sizeof(kind[0]); i++)
		for (int variant = 0; variant < 4; variant++)
		{
			int			type = kind[i][0],
						depth = depth_now = kind[i][1];
			bool		interlace = variant & 1,
						transparent = variant & 2;
			int			w = 37,
						h = 21,
						worst = 0;
			bytes		b;
			img_pixels	p;
			img_info	info;
			mr_status	st = {0};

			if (transparent && type >= 4)
				continue;
			b = make_png(w, h, depth, type, interlace, transparent, any_value);
			img_probe(&mr_env_malloc, b.data, b.len, &test_limits, &info, &st);
			img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 8, 8, &p, &st);
			for (int y = 0; y < h && p.data; y++)
				for (int x = 0; x < w; x++)
				{
					uint8_t		rgb[3];

					expected(x, y, depth, type, transparent, rgb);
					for (int c = 0; c < 3; c++)
					{
						int			d = abs(rgb[c] - p.data[(size_t) y * p.stride + (size_t) x * 3 + (size_t) c]);

						worst = d > worst ? d : worst;
					}
				}
			/* 16 bits: colour and alpha are rounded before they are mixed */
			ok(p.data && p.width == w && p.height == h && worst <= (depth == 16 ? 1 : 0) &&
			   info.channels == channels[type] && info.bit_depth == depth && info.orientation == 1 &&
			   strcmp(info.format, "png") == 0,
			   "%s %d bits%s%s: off by at most %d %s", names[type], depth, interlace ? ", interlaced" : "",
			   transparent ? ", tRNS" : "", worst, st.message);
			img_free(&mr_env_malloc, &p);
			free(b.data);
		}
}

/* Refused, with a message that contains text. */
static void
refused(const bytes *b, const img_limits *limits, const char *text, const char *name)
{
	img_pixels	p;
	mr_status	st = {0};
	meter		m = {0};
	mr_env		env = meter_env(&m);
	mr_code		code = img_decode(&env, b->data, b->len, limits, 0, 0, &p, &st);

	ok(code == MR_INVALID && strstr(st.message, text) && m.used == 0 && m.peak < 1 << 20,
	   "%s: %s", name, st.message);
}

static void
bombs(void)
{
	bytes		b = make_png_start(30000, 30000, 8, 2, 0);
	img_limits	few = test_limits;

	add_chunk(&b, "IDAT", "x\x9c\x03\0\0\0\0\x01", 8);
	add_chunk(&b, "IEND", NULL, 0);
	refused(&b, &test_limits, "too large", "30000 x 30000");
	free(b.data);

	b = make_png_start(16384, 16384, 16, 6, 1);
	refused(&b, &test_limits, "too large", "16384 x 16384, 16 bits, interlaced");
	free(b.data);

	b = make_png_start(0x7fffffff, 0x7fffffff, 16, 6, 1);
	refused(&b, &test_limits, "too large", "2^31 x 2^31");
	free(b.data);

	b = make_png_start(0, 10, 8, 2, 0);
	refused(&b, &test_limits, "no pixels", "width 0");
	free(b.data);

	/* chunks without end, none of which libpng sees */
	b = make_png_start(10, 10, 8, 2, 0);
	for (int i = 0; i < 20000; i++)
		add_chunk(&b, "zTXt", "a\0\0", 3);
	refused(&b, &test_limits, "chunks", "20,000 chunks");
	free(b.data);

	depth_now = 8;
	b = make_png(20, 20, 8, 2, false, false, any_value);
	few.max_chunks = 2;
	refused(&b, &few, "more than 2 chunks", "chunk limit");
	free(b.data);
}

static void
damage(void)
{
	bytes		b,
				c;
	int			wrong = 0,
				good = 0,
				bad = 0,
				other = 0;
	img_pixels	p;
	mr_status	st = {0};

	depth_now = 4;
	b = make_png(24, 18, 4, 3, true, true, any_value);
	for (size_t len = 0; len < b.len; len++)
	{
		uint8_t    *cut = malloc(len ? len : 1);

		memcpy(cut, b.data, len);
		wrong += img_decode(&mr_env_malloc, cut, len, &test_limits, 0, 0, &p, &st) != MR_INVALID || p.data;
		img_free(&mr_env_malloc, &p);
		free(cut);
	}
	ok(wrong == 0, "all %zu shorter files are refused (%d not)", b.len, wrong);
	for (size_t at = 0; at < b.len; at++)
		for (int bit = 0; bit < 8; bit += 3)
		{
			mr_code		code;

			b.data[at] ^= (uint8_t) (1 << bit);
			code = img_decode(&mr_env_malloc, b.data, b.len, &test_limits, 0, 0, &p, &st);
			good += code == MR_OK;
			bad += code == MR_INVALID;
			other += code != MR_OK && code != MR_INVALID;
			img_free(&mr_env_malloc, &p);
			b.data[at] ^= (uint8_t) (1 << bit);
		}
	/* only chunk types that turn into skippable ones may pass */
	ok(other == 0 && good < 40, "flipped bits give %d images and %d refusals", good, bad);
	free(b.data);

	depth_now = 8;
	b = make_png(16, 16, 8, 2, false, false, any_value);

	/* an animation's chunks, text and colour profile are not shown to libpng */
	c = (bytes) {NULL, 0};
	add(&c, b.data, 33);
	add_chunk(&c, "acTL", "\0\0\0\2\0\0\0\0", 8);
	add_chunk(&c, "iCCP", "broken", 6);
	add_chunk(&c, "gAMA", "\0\0", 2);
	add(&c, b.data + 33, b.len - 33 - 12);
	add_chunk(&c, "fdAT", "nonsense", 8);
	add_chunk(&c, "IEND", NULL, 0);
	add(&c, "trailing bytes", 14);
	st.message[0] = '\0';
	ok(img_decode(&mr_env_malloc, c.data, c.len, &test_limits, 0, 0, &p, &st) == MR_OK,
	   "APNG, broken iCCP and gAMA, bytes behind the end: the first image %s", st.message);
	img_free(&mr_env_malloc, &p);
	free(c.data);

	c = (bytes) {NULL, 0};
	add(&c, b.data, 33);
	add_chunk(&c, "ABCD", "x", 1);
	add(&c, b.data + 33, b.len - 33);
	refused(&c, &test_limits, "critical", "unknown critical chunk");
	free(c.data);

	/* the checksum of the compressed data: 4 bytes before IDAT's own */
	c = (bytes) {NULL, 0};
	add(&c, b.data, b.len);
	{
		size_t		idat = 33;
		uint32_t	n = (uint32_t) c.data[idat] << 24 | (uint32_t) c.data[idat + 1] << 16 |
			(uint32_t) c.data[idat + 2] << 8 | c.data[idat + 3];

		c.data[idat + 8 + n - 1] ^= 1;
		put32(c.data + idat + 8 + n, crc_of(c.data + idat + 4, n + 4));
	}
	refused(&c, &test_limits, "data check", "wrong Adler-32");
	free(c.data);
	free(b.data);
}

/* Each allocation refused once, libpng's and zlib's among them; each stop. */
static void
failures(void)
{
	bytes		b;
	meter		m = {0};
	mr_env		env = meter_env(&m);
	img_pixels	p;
	mr_status	st = {0};
	long		allocs,
				asked;
	int			wrong = 0;

	depth_now = 16;
	b = make_png(64, 64, 16, 6, true, false, any_value);
	img_decode(&env, b.data, b.len, &test_limits, 0, 0, &p, &st);
	img_free(&env, &p);
	ok(m.used == 0 && st.code == MR_OK, "16 bits, interlaced, alpha: peak %zu bytes, none left", m.peak);
	allocs = m.allocs;
	asked = m.asked;
	for (long k = 1; k <= allocs; k++)
	{
		m = (meter) {.refuse_at = k};
		wrong += img_decode(&env, b.data, b.len, &test_limits, 0, 0, &p, &st) != MR_NOMEM || m.used != 0;
	}
	ok(wrong == 0, "%ld allocations refused one by one", allocs);
	wrong = 0;
	for (long k = 1; k <= asked; k++)
	{
		m = (meter) {.stop_at = k};
		wrong += img_decode(&env, b.data, b.len, &test_limits, 0, 0, &p, &st) != MR_CANCELED || m.used != 0;
	}
	ok(wrong == 0, "stopped at each of %ld looks at interrupts", asked);
	free(b.data);
}

int
main(void)
{
	kinds();
	bombs();
	damage();
	failures();
	return done_testing();
}
