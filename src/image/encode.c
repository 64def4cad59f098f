/*
 * encode.c
 *	  Pixels to JPEG and PNG files in memory.
 *
 * The file grows in a buffer from env, doubled when full.  libjpeg's and
 * libpng's errors jump as they do when decoding (jpeg_error.h).
 */
#include "image/image_private.h"
#include "image/jpeg_error.h"

#include <png.h>
#include <string.h>

typedef struct buffer
{
	const mr_env *env;
	uint8_t    *data;
	size_t		used;
	size_t		size;
} buffer;

/* Room for n bytes more; false if there is no memory. */
static bool
buffer_reserve(buffer *b, size_t n)
{
	size_t		wanted;
	size_t		size = b->size ? b->size : 16384;
	uint8_t    *grown;

	if (!mr_add_size(b->used, n, &wanted))
		return false;
	if (wanted <= b->size)
		return true;
	while (size < wanted)
		if (!mr_mul_size(size, 2, &size))
			return false;
	if ((grown = mr_alloc(b->env, size)) == NULL)
		return false;
	if (b->used > 0)
		memcpy(grown, b->data, b->used);
	mr_free(b->env, b->data);
	b->data = grown;
	b->size = size;
	return true;
}

typedef struct jpeg_encoder
{
	struct jpeg_compress_struct cinfo;
	struct jpeg_destination_mgr dest;
	img_jpeg_error err;
	buffer		buf;
	const img_pixels *src;
	int			quality;
} jpeg_encoder;

/* (Re)start libjpeg's window at the end of what is written. */
static void
jpeg_window(jpeg_encoder *e)
{
	if (!buffer_reserve(&e->buf, 4096))
		img_jpeg_throw(&e->err, mr_fail(e->err.st, MR_NOMEM, "out of memory encoding an image"));
	e->dest.next_output_byte = e->buf.data + e->buf.used;
	e->dest.free_in_buffer = e->buf.size - e->buf.used;
}

static void
jpeg_init_dest(j_compress_ptr cinfo)
{
	jpeg_window(cinfo->client_data);
}

static boolean
jpeg_full(j_compress_ptr cinfo)
{
	jpeg_encoder *e = cinfo->client_data;

	e->buf.used = e->buf.size;	/* libjpeg calls only when all of it is filled */
	jpeg_window(e);
	return TRUE;
}

static void
jpeg_term_dest(j_compress_ptr cinfo)
{
	jpeg_encoder *e = cinfo->client_data;

	e->buf.used = e->buf.size - e->dest.free_in_buffer;
}

static void
jpeg_encode(jpeg_encoder *e)
{
	struct jpeg_compress_struct *cinfo = &e->cinfo;

	jpeg_create_compress(cinfo);
	cinfo->client_data = e;
	cinfo->dest = &e->dest;
	e->dest.init_destination = jpeg_init_dest;
	e->dest.empty_output_buffer = jpeg_full;
	e->dest.term_destination = jpeg_term_dest;
	cinfo->image_width = (JDIMENSION) e->src->width;
	cinfo->image_height = (JDIMENSION) e->src->height;
	cinfo->input_components = 3;
	cinfo->in_color_space = JCS_RGB;
	jpeg_set_defaults(cinfo);
	jpeg_set_quality(cinfo, e->quality, TRUE);
	if (e->quality > 90)
		cinfo->comp_info[0].h_samp_factor = cinfo->comp_info[0].v_samp_factor = 1;
	jpeg_start_compress(cinfo, TRUE);
	while (cinfo->next_scanline < cinfo->image_height)
	{
		JSAMPROW	row = e->src->data + cinfo->next_scanline * e->src->stride;

		if ((cinfo->next_scanline & 15) == 0 && mr_interrupted(e->buf.env))
			img_jpeg_throw(&e->err, mr_fail(e->err.st, MR_CANCELED, "image encoding canceled"));
		jpeg_write_scanlines(cinfo, &row, 1);
	}
	jpeg_finish_compress(cinfo);
}

static mr_code
jpeg_run(jpeg_encoder *e)
{
	if (setjmp(e->err.jump) == 0)
		jpeg_encode(e);
	return e->err.code;
}

mr_code
img_encode_jpeg(const mr_env *env, const img_pixels *src, int quality,
				uint8_t **file, size_t *len, mr_status *st)
{
	jpeg_encoder e;
	mr_code		code;

	*file = NULL;
	*len = 0;
	if (quality < 1 || quality > 100)
		return mr_fail(st, MR_INVALID, "JPEG quality %d is not between 1 and 100", quality);
	memset(&e, 0, sizeof(e));
	e.cinfo.err = img_jpeg_error_init(&e.err, "could not encode JPEG image", st);
	e.buf.env = env;
	e.src = src;
	e.quality = quality;
	code = jpeg_run(&e);
	jpeg_destroy_compress(&e.cinfo);
	if (code != MR_OK)
	{
		mr_free(env, e.buf.data);
		return code;
	}
	*file = e.buf.data;
	*len = e.buf.used;
	return MR_OK;
}

typedef struct png_encoder
{
	png_structp png;
	png_infop	info;
	jmp_buf		jump;
	buffer		buf;
	const img_pixels *src;
	bool		no_memory;		/* an allocation of libpng's failed */
	mr_code		code;
	mr_status  *st;
} png_encoder;

static void png_throw(png_encoder *e, mr_code code) __attribute__((noreturn));

static void
png_throw(png_encoder *e, mr_code code)
{
	e->code = code;
	longjmp(e->jump, 1);
}

static void PNGCBAPI
png_on_error(png_structp png, png_const_charp text)
{
	png_encoder *e = png_get_error_ptr(png);

	if (e->no_memory)
		png_throw(e, mr_fail(e->st, MR_NOMEM, "out of memory encoding an image"));
	png_throw(e, mr_fail(e->st, MR_INVALID, "could not encode PNG image: %s", text));
}

static void PNGCBAPI
png_on_warning(png_structp png, png_const_charp text)
{
	/* never to stderr; nothing it could say concerns an RGB image */
}

static png_voidp PNGCBAPI
png_on_malloc(png_structp png, png_alloc_size_t size)
{
	png_encoder *e = png_get_mem_ptr(png);
	void	   *p = mr_alloc(e->buf.env, size);

	if (p == NULL)
		e->no_memory = true;
	return p;
}

static void PNGCBAPI
png_on_free(png_structp png, png_voidp ptr)
{
	png_encoder *e = png_get_mem_ptr(png);

	mr_free(e->buf.env, ptr);
}

static void PNGCBAPI
png_on_write(png_structp png, png_bytep from, size_t n)
{
	png_encoder *e = png_get_io_ptr(png);

	if (!buffer_reserve(&e->buf, n))
		png_throw(e, mr_fail(e->st, MR_NOMEM, "out of memory encoding an image"));
	memcpy(e->buf.data + e->buf.used, from, n);
	e->buf.used += n;
}

static void PNGCBAPI
png_on_flush(png_structp png)
{
}

static void
png_encode(png_encoder *e)
{
	e->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, e, png_on_error, png_on_warning,
									   e, png_on_malloc, png_on_free);
	e->info = e->png ? png_create_info_struct(e->png) : NULL;
	if (e->info == NULL)
		png_throw(e, mr_fail(e->st, MR_NOMEM, "out of memory encoding an image"));
	png_set_write_fn(e->png, e, png_on_write, png_on_flush);
	png_set_IHDR(e->png, e->info, (png_uint_32) e->src->width, (png_uint_32) e->src->height, 8,
				 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
				 PNG_FILTER_TYPE_DEFAULT);
	png_write_info(e->png, e->info);
	for (int y = 0; y < e->src->height; y++)
	{
		if (mr_interrupted(e->buf.env))
			png_throw(e, mr_fail(e->st, MR_CANCELED, "image encoding canceled"));
		png_write_row(e->png, e->src->data + (size_t) y * e->src->stride);
	}
	png_write_end(e->png, e->info);
}

static mr_code
png_run(png_encoder *e)
{
	if (setjmp(e->jump) == 0)
		png_encode(e);
	return e->code;
}

mr_code
img_encode_png(const mr_env *env, const img_pixels *src, uint8_t **file, size_t *len, mr_status *st)
{
	png_encoder e;
	mr_code		code;

	*file = NULL;
	*len = 0;
	memset(&e, 0, sizeof(e));
	e.buf.env = env;
	e.src = src;
	e.st = st;
	code = png_run(&e);
	if (e.png)
		png_destroy_write_struct(&e.png, &e.info);
	if (code != MR_OK)
	{
		mr_free(env, e.buf.data);
		return code;
	}
	*file = e.buf.data;
	*len = e.buf.used;
	return MR_OK;
}
