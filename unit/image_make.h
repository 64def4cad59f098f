/*
 * image_make.h
 *	  Images made for tests: every kind of JPEG and PNG, and broken ones.
 */
#ifndef MILLRACE_UNIT_IMAGE_MAKE_H
#define MILLRACE_UNIT_IMAGE_MAKE_H

#include <png.h>
#include <stdint.h>
#include <stdio.h>
#include <jpeglib.h>

#include "image/image.h"
#include "unit.h"

typedef struct bytes
{
	uint8_t    *data;
	size_t		len;
} bytes;

static const img_limits test_limits = IMG_DEFAULT_LIMITS;

/* A smooth picture with a different gradient in each direction. */
static __attribute__((unused)) void
make_pixel(int x, int y, int w, int h, uint8_t rgb[3])
{
	rgb[0] = (uint8_t) (255 * x / (w > 1 ? w - 1 : 1));
	rgb[1] = (uint8_t) (255 * y / (h > 1 ? h - 1 : 1));
	rgb[2] = (uint8_t) (((x / 8) ^ (y / 8)) & 1 ? 200 : 60);
}

typedef struct jpeg_options
{
	int			components;		/* 1, 3 or 4; 0 = 3 */
	bool		progressive;
	bool		arithmetic;
	bool		many_scans;		/* grey: 253 progressive scans, one coefficient and bit at a time */
	bool		ycck;			/* 4 components: YCCK instead of CMYK */
	bool		no_adobe;		/* 4 components: ink not inverted, no Adobe marker */
	bool		full_chroma;
	int			orientation;	/* 0: no EXIF */
	bool		big_endian;		/* of the EXIF block */
	int			quality;		/* 0 = 95 */
} jpeg_options;

/* A JPEG of make_pixel(); CMYK holds the same colours with K = 0 ink. */
static __attribute__((unused)) bytes
make_jpeg(int w, int h, const jpeg_options *o)
{
	struct jpeg_compress_struct c;
	struct jpeg_error_mgr err;
	unsigned char *mem = NULL;
	unsigned long len = 0;
	int			n = o->components ? o->components : 3;
	uint8_t    *row = malloc((size_t) w * (size_t) n);
	jpeg_scan_info scans[253];
	bytes		out;

	c.err = jpeg_std_error(&err);
	jpeg_create_compress(&c);
	jpeg_mem_dest(&c, &mem, &len);
	c.image_width = (JDIMENSION) w;
	c.image_height = (JDIMENSION) h;
	c.input_components = n;
	c.in_color_space = n == 1 ? JCS_GRAYSCALE : n == 3 ? JCS_RGB : JCS_CMYK;
	jpeg_set_defaults(&c);
	if (n == 4)
	{
		jpeg_set_colorspace(&c, o->ycck ? JCS_YCCK : JCS_CMYK);
		c.write_Adobe_marker = !o->no_adobe;
	}
	jpeg_set_quality(&c, o->quality ? o->quality : 95, TRUE);
	if (o->full_chroma)
		c.comp_info[0].h_samp_factor = c.comp_info[0].v_samp_factor = 1;
	if (o->progressive)
		jpeg_simple_progression(&c);
	if (o->many_scans)
	{
		jpeg_scan_info *scan = scans;

		*scan++ = (jpeg_scan_info) {1, {0}, 0, 0, 0, 0};
		for (int bit = 3; bit >= 0; bit--)
			for (int k = 1; k < 64; k++)
				*scan++ = (jpeg_scan_info) {1, {0}, k, k, bit == 3 ? 0 : bit + 1, bit};
		c.scan_info = scans;
		c.num_scans = 253;
	}
	c.arith_code = o->arithmetic;
	jpeg_start_compress(&c, TRUE);
	if (o->orientation)
	{
		/* TIFF header, one entry: tag 0x0112, SHORT, count 1, value */
		uint8_t		le[] = {'E', 'x', 'i', 'f', 0, 0, 'I', 'I', '*', 0, 8, 0, 0, 0, 1, 0,
		0x12, 1, 3, 0, 1, 0, 0, 0, (uint8_t) o->orientation, 0, 0, 0, 0, 0, 0, 0};
		uint8_t		be[] = {'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1,
		1, 0x12, 0, 3, 0, 0, 0, 1, 0, (uint8_t) o->orientation, 0, 0, 0, 0, 0, 0};

		jpeg_write_marker(&c, JPEG_APP0 + 1, o->big_endian ? be : le, sizeof(le));
	}
	for (int y = 0; y < h; y++)
	{
		for (int x = 0; x < w; x++)
		{
			uint8_t		rgb[3];

			make_pixel(x, y, w, h, rgb);
			if (n == 1)
				row[x] = rgb[0];
			else
				for (int i = 0; i < n; i++)
					/* ink of 0 is 0, or 255 when inverted as Adobe does */
					row[x * n + i] = n == 3 ? rgb[i] : o->no_adobe ? (i < 3 ? 255 - rgb[i] : 0)
						: (i < 3 ? rgb[i] : 255);
		}
		jpeg_write_scanlines(&c, &row, 1);
	}
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
	free(row);
	out.data = mem;
	out.len = len;
	return out;
}

static __attribute__((unused)) void
put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t) (v >> 24);
	p[1] = (uint8_t) (v >> 16);
	p[2] = (uint8_t) (v >> 8);
	p[3] = (uint8_t) v;
}

static __attribute__((unused)) uint32_t
crc_of(const uint8_t *p, size_t n)
{
	uint32_t	crc = 0xFFFFFFFFu;

	while (n-- > 0)
	{
		crc ^= *p++;
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
	}
	return ~crc;
}

/* What a buffer of n bytes is allocated as: growing one is then linear. */
static __attribute__((unused)) size_t
capacity(size_t n)
{
	size_t		size = 64;

	while (size < n)
		size *= 2;
	return size;
}

/* Append bytes to a buffer made by add() alone. */
static __attribute__((unused)) void
add(bytes *b, const void *p, size_t n)
{
	if (b->data == NULL || capacity(b->len + n) > capacity(b->len))
		b->data = realloc(b->data, capacity(b->len + n));
	if (n > 0)
		memcpy(b->data + b->len, p, n);
	b->len += n;
}

/* Append a PNG chunk with its checksum. */
static __attribute__((unused)) void
add_chunk(bytes *b, const char *type, const void *p, size_t n)
{
	uint8_t		word[4];
	size_t		start;

	put32(word, (uint32_t) n);
	add(b, word, 4);
	start = b->len;
	add(b, type, 4);
	add(b, p, n);
	put32(word, crc_of(b->data + start, b->len - start));
	add(b, word, 4);
}

/* Signature and header chunk only. */
static __attribute__((unused)) bytes
make_png_start(uint32_t w, uint32_t h, int depth, int type, int interlace)
{
	bytes		b = {NULL, 0};
	uint8_t		ihdr[13] = {0};

	put32(ihdr, w);
	put32(ihdr + 4, h);
	ihdr[8] = (uint8_t) depth;
	ihdr[9] = (uint8_t) type;
	ihdr[12] = (uint8_t) interlace;
	add(&b, "\x89PNG\r\n\x1a\n", 8);
	add_chunk(&b, "IHDR", ihdr, 13);
	return b;
}

static __attribute__((unused)) void
png_to_bytes(png_structp png, png_bytep p, size_t n)
{
	add(png_get_io_ptr(png), p, n);
}

/*
 * A PNG of any colour type and depth.  Sample values: value(x, y, channel) in
 * 0..2^depth-1; a palette has entry i = (i * 7, 255 - i * 3, i * 11) mod 256,
 * with tRNS alpha 255 - i * 16 for the first 8 entries if transparent.
 */
static __attribute__((unused)) bytes
make_png(int w, int h, int depth, int type, bool interlace, bool transparent,
		 unsigned (*value) (int x, int y, int c))
{
	static const int channels[7] = {1, 0, 3, 1, 2, 0, 4};
	int			n = channels[type];
	bytes		out = {NULL, 0};
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
	png_infop	info = png_create_info_struct(png);
	size_t		row_bytes = ((size_t) w * (size_t) n * (size_t) depth + 7) / 8;
	uint8_t    *all = calloc((size_t) h, row_bytes);
	uint8_t   **rows = malloc(sizeof(uint8_t *) * (size_t) h);

	png_set_write_fn(png, &out, png_to_bytes, NULL);
	png_set_IHDR(png, info, (png_uint_32) w, (png_uint_32) h, depth, type,
				 interlace ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
	if (type == PNG_COLOR_TYPE_PALETTE)
	{
		png_color	colours[256];
		uint8_t		alpha[8];
		int			entries = 1 << depth;

		for (int i = 0; i < entries; i++)
			colours[i] = (png_color) {(uint8_t) (i * 7), (uint8_t) (255 - i * 3), (uint8_t) (i * 11)};
		for (int i = 0; i < 8; i++)
			alpha[i] = (uint8_t) (255 - i * 16);
		png_set_PLTE(png, info, colours, entries);
		if (transparent)
			png_set_tRNS(png, info, alpha, entries < 8 ? entries : 8, NULL);
	}
	else if (transparent)
	{
		/* the colour of all samples 1 is transparent */
		png_color_16 key = {0, 1, 1, 1, 1};

		png_set_tRNS(png, info, NULL, 0, &key);
	}
	for (int y = 0; y < h; y++)
	{
		rows[y] = all + (size_t) y * row_bytes;
		for (int x = 0; x < w; x++)
			for (int c = 0; c < n; c++)
			{
				unsigned	v = value(x, y, c);
				int			i = x * n + c;

				if (depth == 16)
				{
					rows[y][2 * i] = (uint8_t) (v >> 8);
					rows[y][2 * i + 1] = (uint8_t) v;
				}
				else
					rows[y][i * depth / 8] |= (uint8_t) (v << (8 - depth - i * depth % 8));
			}
	}
	png_write_info(png, info);
	png_write_image(png, rows);
	png_write_end(png, info);
	png_destroy_write_struct(&png, &info);
	free(rows);
	free(all);
	return out;
}

/*
 * An environment that counts: bytes in use, their peak, calls; it can refuse
 * the nth allocation or ask to stop at the nth question.
 */
typedef struct meter
{
	size_t		used,
				peak;
	long		allocs,
				asked;
	long		refuse_at,		/* 0: never */
				stop_at;		/* 0: never */
} meter;

static __attribute__((unused)) void *
meter_alloc(void *arg, size_t size)
{
	meter	   *m = arg;
	size_t	   *p;

	if (++m->allocs == m->refuse_at || size > ((size_t) 1 << 40))
		return NULL;
	p = aligned_alloc(64, 64 + ((size + 63) & ~(size_t) 63));
	p[0] = size;
	m->used += size;
	if (m->used > m->peak)
		m->peak = m->used;
	return (char *) p + 64;
}

static __attribute__((unused)) void
meter_release(void *arg, void *ptr)
{
	size_t	   *p = (size_t *) ((char *) ptr - 64);

	((meter *) arg)->used -= p[0];
	free(p);
}

static __attribute__((unused)) bool
meter_interrupted(void *arg)
{
	meter	   *m = arg;

	return ++m->asked == m->stop_at;
}

static __attribute__((unused)) mr_env
meter_env(meter *m)
{
	return (mr_env) {meter_alloc, meter_release, meter_interrupted, m};
}

#endif							/* MILLRACE_UNIT_IMAGE_MAKE_H */
