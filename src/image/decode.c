/*
 * decode.c
 *	  Which format it is, whether it is within the limits, and the way to pixels.
 *
 * The header is read by our own walkers (exif.c, png.c) and checked against
 * the limits before libjpeg or libpng see a byte.
 */
#include "image/image_private.h"

#include <string.h>

typedef enum img_format
{
	format_unknown, format_jpeg, format_png
} img_format;

static img_format
sniff(const uint8_t *data, size_t len)
{
	static const uint8_t png_signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

	if (len >= 3 && data[0] == 0xFF && data[1] == 0xD8 && data[2] == 0xFF)
		return format_jpeg;
	if (len >= 8 && memcmp(data, png_signature, 8) == 0)
		return format_png;
	return format_unknown;
}

static mr_code
fail_unknown(const uint8_t *data, size_t len, mr_status *st)
{
	mr_fail(st, MR_INVALID, len == 0 ? "image is empty" : "image is neither JPEG nor PNG");
	if (len >= 4 && memcmp(data, "GIF8", 4) == 0)
		mr_detail(st, "The data begins like a GIF file.");
	else if (len >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0)
		mr_detail(st, "The data begins like a WebP file.");
	else if (len >= 2 && memcmp(data, "BM", 2) == 0)
		mr_detail(st, "The data begins like a BMP file.");
	else if (len >= 4 && (memcmp(data, "II*\0", 4) == 0 || memcmp(data, "MM\0*", 4) == 0))
		mr_detail(st, "The data begins like a TIFF file.");
	else if (len >= 4)
		mr_detail(st, "The data begins with the bytes %02x %02x %02x %02x.",
				  data[0], data[1], data[2], data[3]);
	return MR_INVALID;
}

/* Width and height, of a file or to be made, against the limits. */
mr_code
img_check_size(const img_limits *limits, uint64_t w, uint64_t h, mr_status *st)
{
	if (w == 0 || h == 0)
		return mr_fail(st, MR_INVALID, "image has no pixels (%llu x %llu)",
					   (unsigned long long) w, (unsigned long long) h);
	if (w > (uint64_t) limits->max_side || h > (uint64_t) limits->max_side)
	{
		mr_fail(st, MR_INVALID, "image of %llu x %llu pixels is too large",
				(unsigned long long) w, (unsigned long long) h);
		mr_detail(st, "No side may exceed %d pixels.", limits->max_side);
		mr_hint(st, "A superuser can raise millrace.image_max_side.");
		return MR_INVALID;
	}
	if (w * h > limits->max_pixels)
	{
		mr_fail(st, MR_INVALID, "image of %llu x %llu pixels is too large",
				(unsigned long long) w, (unsigned long long) h);
		mr_detail(st, "At most %llu pixels are allowed.", (unsigned long long) limits->max_pixels);
		mr_hint(st, "A superuser can raise millrace.image_max_pixels.");
		return MR_INVALID;
	}
	return MR_OK;
}

static mr_code
check_bytes(const img_limits *limits, size_t len, mr_status *st)
{
	if (len <= limits->max_bytes)
		return MR_OK;
	mr_fail(st, MR_INVALID, "image file of %zu bytes is too large", len);
	mr_detail(st, "At most %zu bytes are allowed.", limits->max_bytes);
	mr_hint(st, "A superuser can raise millrace.image_max_bytes.");
	return MR_INVALID;
}

/* Room for w x h pixels, slack included; the slack is zeroed. */
mr_code
img_alloc(const mr_env *env, int w, int h, img_pixels *out, mr_status *st)
{
	size_t		stride;
	size_t		size;

	memset(out, 0, sizeof(*out));
	if (!mr_mul_size((size_t) w, 3, &stride) || !mr_mul_size(stride, (size_t) h, &size) ||
		!mr_add_size(size, IMG_SLACK, &size))
		return mr_fail(st, MR_INVALID, "image of %d x %d pixels is too large", w, h);
	out->data = mr_alloc(env, size);
	if (out->data == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for an image of %d x %d pixels", w, h);
	memset(out->data + size - IMG_SLACK, 0, IMG_SLACK);
	out->width = w;
	out->height = h;
	out->channels = 3;
	out->stride = stride;
	return MR_OK;
}

void
img_free(const mr_env *env, img_pixels *pixels)
{
	mr_free(env, pixels->data);
	memset(pixels, 0, sizeof(*pixels));
}

mr_code
img_probe(const mr_env *env, const uint8_t *data, size_t len, const img_limits *limits,
		  img_info *info, mr_status *st)
{
	mr_code		code;

	memset(info, 0, sizeof(*info));
	if ((code = check_bytes(limits, len, st)) != MR_OK)
		return code;
	switch (sniff(data, len))
	{
		case format_jpeg:
			{
				img_jpeg_header h;

				if ((code = img_jpeg_walk(data, len, &h, st)) != MR_OK ||
					(code = img_check_size(limits, (uint64_t) h.width, (uint64_t) h.height, st)) != MR_OK)
					return code;
				strcpy(info->format, "jpeg");
				info->width = h.width;
				info->height = h.height;
				info->channels = h.components;
				info->bit_depth = h.precision;
				info->orientation = h.orientation;
				return MR_OK;
			}
		case format_png:
			{
				/* samples a pixel by colour type: grey, -, RGB, palette, grey + alpha, -, RGBA */
				static const int channels[7] = {1, 0, 3, 1, 2, 0, 4};
				img_png_header h;

				if ((code = img_png_header_read(data, len, &h, st)) != MR_OK ||
					(code = img_check_size(limits, h.width, h.height, st)) != MR_OK)
					return code;
				strcpy(info->format, "png");
				info->width = (int) h.width;
				info->height = (int) h.height;
				info->channels = channels[h.color_type];
				info->bit_depth = h.bit_depth;
				info->orientation = 1;
				return MR_OK;
			}
		case format_unknown:
			break;
	}
	return fail_unknown(data, len, st);
}

/* Decode for what the caller wants to do next; upright. */
mr_code
img_decode_for(const mr_env *env, const uint8_t *data, size_t len, const img_limits *limits,
			   const img_want *want, img_pixels *out, int *whole_w, int *whole_h, mr_status *st)
{
	mr_code		code;

	memset(out, 0, sizeof(*out));
	if ((code = check_bytes(limits, len, st)) != MR_OK)
		return code;
	switch (sniff(data, len))
	{
		case format_jpeg:
			{
				img_jpeg_header h;

				if ((code = img_jpeg_walk(data, len, &h, st)) != MR_OK ||
					(code = img_check_size(limits, (uint64_t) h.width, (uint64_t) h.height, st)) != MR_OK)
					return code;
				*whole_w = h.orientation >= 5 ? h.height : h.width;
				*whole_h = h.orientation >= 5 ? h.width : h.height;
				code = img_jpeg_decode(env, data, len, limits, &h, want, out, st);
				if (code == MR_OK && h.orientation != 1)
					code = img_orient(env, out, h.orientation, st);
				break;
			}
		case format_png:
			{
				img_png_header h;

				if ((code = img_png_header_read(data, len, &h, st)) != MR_OK ||
					(code = img_check_size(limits, h.width, h.height, st)) != MR_OK)
					return code;
				*whole_w = (int) h.width;
				*whole_h = (int) h.height;
				code = img_png_decode(env, data, len, limits, &h, out, st);
				break;
			}
		default:
			return fail_unknown(data, len, st);
	}
	if (code != MR_OK)
		img_free(env, out);
	return code;
}

mr_code
img_decode(const mr_env *env, const uint8_t *data, size_t len, const img_limits *limits,
		   int target_w, int target_h, img_pixels *out, mr_status *st)
{
	img_want	want = {.cover_only = true, .w = target_w, .h = target_h};
	int			whole_w,
				whole_h;

	return img_decode_for(env, data, len, limits, &want, out, &whole_w, &whole_h, st);
}
