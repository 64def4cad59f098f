/*
 * png.c
 *	  PNG to RGB by libpng, which is shown five kinds of chunks only.
 *
 * A walker of our own checks the signature, the order, number and length of
 * all chunks, and hands libpng nothing but IHDR, PLTE, tRNS, IDAT and IEND:
 * most of libpng's past security holes were in the others.  Chunks of an
 * animation (APNG) are among the skipped, so its first image is read.
 *
 * Memory: pixels and all of libpng's allocations from env.  libpng's errors
 * jump to the setjmp in run(), whose caller frees (see jpeg_error.h).
 */
#include "image/image_private.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

#define CHUNK(a, b, c, d) ((uint32_t) (a) << 24 | (uint32_t) (b) << 16 | (uint32_t) (c) << 8 | (uint32_t) (d))
#define IHDR CHUNK('I', 'H', 'D', 'R')
#define PLTE CHUNK('P', 'L', 'T', 'E')
#define TRNS CHUNK('t', 'R', 'N', 'S')
#define IDAT CHUNK('I', 'D', 'A', 'T')
#define IEND CHUNK('I', 'E', 'N', 'D')
/* The bit that says a decoder may skip the chunk. */
#define ANCILLARY 0x20000000u

typedef struct png_job
{
	png_structp png;
	png_infop	info;
	jmp_buf		jump;
	const mr_env *env;
	const uint8_t *data;
	size_t		len;
	size_t		chunk;			/* where the next chunk begins */
	size_t		pos;			/* libpng's place, within chunks already admitted */
	size_t		admitted;		/* end of the chunk libpng is reading */
	int			chunks;
	bool		seen_idat,
				seen_end,
				no_memory;		/* an allocation of libpng's failed */
	const img_limits *limits;
	const img_png_header *header;
	img_pixels *out;
	uint8_t    *rgba;			/* one row, or the whole image if interlaced */
	uint8_t   **rows;			/* interlaced: pointers to rows */
	mr_code		code;
	mr_status  *st;
} png_job;

static uint32_t
get32(const uint8_t *p)
{
	return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

/* CRC-32 (ISO 3309) of a short chunk, bit by bit: only IHDR needs it. */
static uint32_t
crc32_of(const uint8_t *p, size_t n)
{
	uint32_t	crc = 0xFFFFFFFFu;

	while (n-- > 0)
	{
		crc ^= *p++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
	}
	return ~crc;
}

/* The IHDR chunk; data is known to begin with the signature. */
mr_code
img_png_header_read(const uint8_t *data, size_t len, img_png_header *h, mr_status *st)
{
	/* allowed depths by colour type, a bit for each depth */
	static const unsigned depths[7] = {1 | 2 | 4 | 8 | 16, 0, 8 | 16, 1 | 2 | 4 | 8, 8 | 16, 0, 8 | 16};

	if (len < 8 + 8 + 13 + 4)
		return mr_fail(st, MR_INVALID, "invalid PNG image: it ends within its header");
	if (get32(data + 8) != 13 || get32(data + 12) != IHDR)
		return mr_fail(st, MR_INVALID, "invalid PNG image: its first chunk is not a header");
	if (crc32_of(data + 12, 17) != get32(data + 29))
		return mr_fail(st, MR_INVALID, "invalid PNG image: checksum of the header is wrong");
	h->width = get32(data + 16);
	h->height = get32(data + 20);
	h->bit_depth = data[24];
	h->color_type = data[25];
	h->interlace = data[28];
	if (h->color_type > 6 || (depths[h->color_type] & (unsigned) h->bit_depth) == 0 ||
		(h->bit_depth & (h->bit_depth - 1)) != 0)
		return mr_fail(st, MR_INVALID, "invalid PNG image: colour type %d with %d bits does not exist",
					   h->color_type, h->bit_depth);
	if (data[26] != 0 || data[27] != 0 || h->interlace > 1)
		return mr_fail(st, MR_INVALID, "invalid PNG image: unknown compression, filter or interlace method");
	return MR_OK;
}

static void png_throw(png_job *job, mr_code code) __attribute__((noreturn));

static void
png_throw(png_job *job, mr_code code)
{
	job->code = code;
	longjmp(job->jump, 1);
}

static void PNGCBAPI
on_error(png_structp png, png_const_charp text)
{
	png_job    *job = png_get_error_ptr(png);

	if (job->no_memory)
		png_throw(job, mr_fail(job->st, MR_NOMEM, "out of memory decoding an image"));
	png_throw(job, mr_fail(job->st, MR_INVALID, "invalid PNG image: %s", text));
}

/*
 * Warnings that mean damaged pixels are errors: a wrong checksum of the
 * compressed data, a colour that the palette lacks, data for too few rows.
 */
static void PNGCBAPI
on_warning(png_structp png, png_const_charp text)
{
	if (strstr(text, "data check") || strstr(text, "palette index") || strstr(text, "CRC") ||
		strstr(text, "Not enough") || strstr(text, "out of place") || strstr(text, "invalid"))
		on_error(png, text);
}

static png_voidp PNGCBAPI
on_malloc(png_structp png, png_alloc_size_t size)
{
	png_job    *job = png_get_mem_ptr(png);
	void	   *p = mr_alloc(job->env, size);

	if (p == NULL)
		job->no_memory = true;
	return p;
}

static void PNGCBAPI
on_free(png_structp png, png_voidp ptr)
{
	png_job    *job = png_get_mem_ptr(png);

	mr_free(job->env, ptr);
}

/* Find the next chunk libpng may see; jumps if the file ends or is malformed. */
static void
admit(png_job *job)
{
	for (;;)
	{
		uint32_t	size,
					type;

		if (job->seen_end || job->len - job->chunk < 12)
			png_throw(job, mr_fail(job->st, MR_INVALID, "invalid PNG image: it is cut short"));
		size = get32(job->data + job->chunk);
		type = get32(job->data + job->chunk + 4);
		if (size > job->len - job->chunk - 12)
			png_throw(job, mr_fail(job->st, MR_INVALID, "invalid PNG image: it is cut short"));
		if (++job->chunks > job->limits->max_chunks)
		{
			mr_fail(job->st, MR_INVALID, "PNG image has more than %d chunks", job->limits->max_chunks);
			mr_hint(job->st, "A superuser can raise millrace.image_max_chunks.");
			png_throw(job, MR_INVALID);
		}
		job->pos = job->chunk;
		job->chunk += 12 + (size_t) size;
		job->admitted = job->chunk;
		if (type == IDAT)
			job->seen_idat = true;
		else if (type == IEND)
			job->seen_end = true;
		if (type == IHDR || type == PLTE || type == IDAT || type == IEND)
			return;
		/* a tRNS that does not fit the kind of image or its place means nothing */
		if (type == TRNS && !job->seen_idat &&
			((job->header->color_type == PNG_COLOR_TYPE_GRAY && size == 2) ||
			 (job->header->color_type == PNG_COLOR_TYPE_RGB && size == 6) ||
			 (job->header->color_type == PNG_COLOR_TYPE_PALETTE && size <= 256)))
			return;
		if ((type & ANCILLARY) == 0)
			png_throw(job, mr_fail(job->st, MR_INVALID,
								   "invalid PNG image: unknown critical chunk %08x", type));
	}
}

static void PNGCBAPI
on_read(png_structp png, png_bytep to, size_t n)
{
	png_job    *job = png_get_io_ptr(png);

	while (n > 0)
	{
		size_t		part;

		if (job->pos == job->admitted)
			admit(job);
		part = job->admitted - job->pos;
		if (part > n)
			part = n;
		memcpy(to, job->data + job->pos, part);
		job->pos += part;
		to += part;
		n -= part;
	}
}

/* After each row of each pass. */
static void PNGCBAPI
on_row(png_structp png, png_uint_32 row, int pass)
{
	png_job    *job = png_get_io_ptr(png);

	if (mr_interrupted(job->env))
		png_throw(job, mr_fail(job->st, MR_CANCELED, "image decoding canceled"));
}

/* RGBA over white; in and out may be the same row. */
static void
flatten(const uint8_t *in, uint8_t *out, int n)
{
	for (int i = 0; i < n; i++, in += 4, out += 3)
	{
		unsigned	a = in[3];
		unsigned	rest = 255 * (255 - a);

		for (int c = 0; c < 3; c++)
		{
			unsigned	v = in[c] * a + rest + 128;

			out[c] = (uint8_t) ((v + (v >> 8)) >> 8);	/* v / 255, rounded */
		}
	}
}

static void *
need(png_job *job, size_t size)
{
	void	   *p = mr_alloc(job->env, size);

	if (p == NULL)
		png_throw(job, mr_fail(job->st, MR_NOMEM, "out of memory decoding an image"));
	return p;
}

/* Runs inside setjmp: no local of this function is read after a jump. */
static void
decode(png_job *job)
{
	int			w = (int) job->header->width;
	int			h = (int) job->header->height;
	bool		alpha;
	size_t		row_bytes;
	mr_code		code;

	job->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, job, on_error, on_warning,
										job, on_malloc, on_free);
	if (job->png == NULL)
		png_throw(job, mr_fail(job->st, MR_NOMEM, "out of memory decoding an image"));
	job->info = png_create_info_struct(job->png);
	if (job->info == NULL)
		png_throw(job, mr_fail(job->st, MR_NOMEM, "out of memory decoding an image"));
	png_set_read_fn(job->png, job, on_read);
	png_set_read_status_fn(job->png, on_row);
	png_set_sig_bytes(job->png, 8);
	png_set_user_limits(job->png, (png_uint_32) job->limits->max_side, (png_uint_32) job->limits->max_side);
	png_set_chunk_cache_max(job->png, 16);
	png_set_chunk_malloc_max(job->png, 1024 * 1024);
	png_read_info(job->png, job->info);
	if (png_get_image_width(job->png, job->info) != job->header->width ||
		png_get_image_height(job->png, job->info) != job->header->height)
		png_error(job->png, "two headers");

	png_set_expand(job->png);	/* palette to RGB, 1-4 bits to 8, tRNS to alpha */
	png_set_scale_16(job->png);
	png_set_gray_to_rgb(job->png);
	png_set_interlace_handling(job->png);
	png_read_update_info(job->png, job->info);
	alpha = png_get_channels(job->png, job->info) == 4;
	row_bytes = (size_t) w * (alpha ? 4 : 3);
	if (png_get_rowbytes(job->png, job->info) != row_bytes)
		png_error(job->png, "unexpected row size");

	code = img_alloc(job->env, w, h, job->out, job->st);
	if (code != MR_OK)
		png_throw(job, code);
	if (job->header->interlace)
	{
		/* all seven passes write into the same rows */
		uint8_t    *base = job->out->data;
		size_t		stride = job->out->stride;

		if (alpha)
		{
			base = job->rgba = need(job, row_bytes * (size_t) h);
			stride = row_bytes;
		}
		job->rows = need(job, sizeof(uint8_t *) * (size_t) h);
		for (int y = 0; y < h; y++)
			job->rows[y] = base + (size_t) y * stride;
		png_read_image(job->png, job->rows);
		if (alpha)
			for (int y = 0; y < h; y++)
				flatten(job->rows[y], job->out->data + (size_t) y * job->out->stride, w);
	}
	else
	{
		if (alpha)
			job->rgba = need(job, row_bytes);
		for (int y = 0; y < h; y++)
		{
			uint8_t    *row = job->out->data + (size_t) y * job->out->stride;

			png_read_row(job->png, alpha ? job->rgba : row, NULL);
			if (alpha)
				flatten(job->rgba, row, w);
		}
	}
	/* checks what is left of the compressed data, and that the file has an end */
	png_read_end(job->png, NULL);
}

static mr_code
run(png_job *job)
{
	if (setjmp(job->jump) == 0)
		decode(job);
	return job->code;
}

mr_code
img_png_decode(const mr_env *env, const uint8_t *data, size_t len, const img_limits *limits,
			   const img_png_header *h, img_pixels *out, mr_status *st)
{
	png_job		job;
	mr_code		code;

	memset(out, 0, sizeof(*out));
	memset(&job, 0, sizeof(job));
	job.env = env;
	job.data = data;
	job.len = len;
	job.chunk = job.pos = job.admitted = 8;
	job.limits = limits;
	job.header = h;
	job.out = out;
	job.code = MR_OK;
	job.st = st;

	code = run(&job);
	if (job.png)
		png_destroy_read_struct(&job.png, &job.info, NULL);
	mr_free(env, job.rgba);
	mr_free(env, job.rows);
	if (code != MR_OK)
		img_free(env, out);
	return code;
}
