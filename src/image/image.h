/*
 * image.h
 *	  JPEG and PNG to pixels, pixels to a network's input, and back to files.
 *
 * Pure core: no PostgreSQL.  All pixels are RGB, 8 bits a channel, rows top to
 * bottom, already turned upright by the EXIF orientation and, for PNG, laid
 * over white where transparent.
 *
 * Errors: whatever is wrong with an image, a limit it exceeds included, is
 * MR_INVALID and says what; MR_NOMEM and MR_CANCELED are about us.  Nothing is
 * ever written to stderr.  Functions keep no state, so they may run in any
 * backend or worker; output is the same bits on every instruction set.
 *
 * Memory: results come from env and are the caller's (img_free).  libjpeg's
 * own working memory comes from malloc and is freed before each return.
 */
#ifndef MILLRACE_IMAGE_H
#define MILLRACE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/env.h"
#include "core/status.h"

/* What the file's header says, before any pixel is decoded. */
typedef struct img_info
{
	char		format[8];		/* "jpeg" or "png" */
	int			width;			/* as stored, before orientation */
	int			height;
	int			channels;		/* as stored: 1, 2, 3 or 4; a palette is 1 */
	int			bit_depth;		/* bits of a channel: 1, 2, 4, 8 or 16 */
	int			orientation;	/* EXIF, 1..8; 1 if the file does not say */
} img_info;

typedef struct img_pixels
{
	int			width;
	int			height;
	int			channels;		/* 3 */
	size_t		stride;			/* bytes from one row to the next */
	uint8_t    *data;			/* IMG_SLACK readable bytes follow the last row */
} img_pixels;

/* Bytes that vector loads may touch behind the last row. */
#define IMG_SLACK 64

/* Checked before any allocation that depends on the file. */
typedef struct img_limits
{
	size_t		max_bytes;		/* of the file */
	uint64_t	max_pixels;		/* width * height, as stored and as made */
	int			max_side;		/* width and height, each */
	int			max_scans;		/* of a progressive JPEG */
	int			max_chunks;		/* of a PNG */
} img_limits;

#define IMG_DEFAULT_LIMITS {32 << 20, 50000000, 16384, 100, 10000}

typedef enum img_filter
{
	img_nearest,
	img_box,
	img_bilinear,
	img_bicubic,
	img_lanczos
} img_filter;

typedef enum img_fit_mode
{
	img_fit_stretch,			/* both sides forced, proportions lost */
	img_fit_cover,				/* largest centred part with the target's proportions */
	img_fit_contain,			/* letterbox: the whole image, bars in the pad colour */
	img_fit_resize_crop			/* shorter side to `resize`, then the centre (torchvision) */
} img_fit_mode;

/* A part of an image, in pixels; fractions allowed, as Pillow's resize(box=). */
typedef struct img_box_t
{
	double		x0,
				y0,
				x1,
				y1;
} img_box_t;

/* From image bytes to a network's input; see img_to_tensor(). */
typedef struct img_prep
{
	int			width;
	int			height;
	img_fit_mode fit;
	int			resize;			/* img_fit_resize_crop: shorter side; 0 = the target's shorter side */
	img_filter	filter;
	bool		bgr;			/* planes in the order blue, green, red */
	bool		grey;			/* one plane of luma (ITU-R 601) instead of three */
	float		scale;			/* 1/255 for a range of 0..1 */
	float		mean[3];		/* by plane, in the order the planes are written */
	float		std[3];			/* must not be 0 */
	uint8_t		pad;			/* grey level of a letterbox's bars */
} img_prep;

/* Planes that img_to_tensor() writes: 1 or 3. */
static inline int
img_prep_channels(const img_prep *prep)
{
	return prep->grey ? 1 : 3;
}

/* Read the header only; limits are checked. */
extern mr_code img_probe(const mr_env *env, const uint8_t *data, size_t len,
						 const img_limits *limits, img_info *info, mr_status *st);

/*
 * All pixels, upright.  With target_w and target_h > 0 a JPEG is decoded at the
 * smallest fast DCT scale (1/8, 1/4, 1/2) that still measures at least that much;
 * 0 means full size.
 */
extern mr_code img_decode(const mr_env *env, const uint8_t *data, size_t len,
						  const img_limits *limits, int target_w, int target_h,
						  img_pixels *out, mr_status *st);

extern void img_free(const mr_env *env, img_pixels *pixels);

/*
 * Resample to w x h.  Antialiased by the filter's support, as Pillow does it:
 * the two agree within 1/255 on average.  box NULL is the whole image.
 */
extern mr_code img_resize(const mr_env *env, const img_pixels *src, int w, int h,
						  img_filter filter, const img_box_t *box,
						  img_pixels *out, mr_status *st);

/* Resample to exactly w x h under a fit mode; resize and pad as in img_prep. */
extern mr_code img_fit(const mr_env *env, const img_pixels *src, int w, int h,
					   img_fit_mode fit, int resize, img_filter filter, uint8_t pad,
					   img_pixels *out, mr_status *st);

/* Decode and fit in one: the DCT scale is chosen by what the fit needs. */
extern mr_code img_decode_fit(const mr_env *env, const uint8_t *data, size_t len,
							  const img_limits *limits, int w, int h,
							  img_fit_mode fit, int resize, img_filter filter, uint8_t pad,
							  img_pixels *out, mr_status *st);

/*
 * Image bytes to planes of floats: out is (channels, height, width), each value
 * (pixel * scale - mean) / std, channels = img_prep_channels().
 */
extern mr_code img_to_tensor(const mr_env *env, const uint8_t *data, size_t len,
							 const img_limits *limits, const img_prep *prep,
							 float *out, mr_status *st);

/* The same from pixels that already measure prep->width x prep->height. */
extern mr_code img_pixels_to_tensor(const img_pixels *src, const img_prep *prep,
									float *out, mr_status *st);

/* MR_INVALID with the reason if a prep cannot be used. */
extern mr_code img_check_prep(const img_prep *prep, const img_limits *limits, mr_status *st);

/* Where an image lies in a detector's input; see letterbox.c. */
typedef struct img_letterbox
{
	int			src_w,			/* the upright image */
				src_h;
	int			width,			/* the input */
				height;
	int			inner_w,		/* the image in it, */
				inner_h;
	int			left,			/* and its corner */
				top;
} img_letterbox;

/*
 * As Ultralytics' LetterBox: the largest centred copy of the image within
 * width x height.  stride 0: bars fill the rest; else only up to the next
 * multiple of stride (auto), and width and height of *out may be less.
 */
extern void img_plan_letterbox(int src_w, int src_h, int width, int height, int stride, img_letterbox *out);

/*
 * Image bytes to planes of floats (3, box->height, box->width), resized as
 * OpenCV's INTER_LINEAR does it, bit by bit.  Of prep only bgr, scale, mean, std
 * and pad count; grey is MR_UNSUPPORTED.  The image must measure box->src_w x
 * box->src_h.
 */
extern mr_code img_letterbox_to_tensor(const mr_env *env, const uint8_t *data, size_t len, const img_limits *limits,
									   const img_prep *prep, const img_letterbox *box, float *out, mr_status *st);
extern mr_code img_letterbox_pixels(const mr_env *env, const img_pixels *src, const img_prep *prep,
									const img_letterbox *box, float *out, mr_status *st);

/* Names as SQL and model specs write them; false if there is no such name. */
extern bool img_filter_by_name(const char *name, img_filter *filter);
extern bool img_fit_by_name(const char *name, img_fit_mode *fit);

/* Encode; *file is from env.  Quality 1..100; up to 90 chroma is halved both ways. */
extern mr_code img_encode_jpeg(const mr_env *env, const img_pixels *src, int quality,
							   uint8_t **file, size_t *len, mr_status *st);
extern mr_code img_encode_png(const mr_env *env, const img_pixels *src,
							  uint8_t **file, size_t *len, mr_status *st);

#endif							/* MILLRACE_IMAGE_H */
