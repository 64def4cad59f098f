/*
 * image_private.h
 *	  Shared by the files of this room only.
 */
#ifndef MILLRACE_IMAGE_PRIVATE_H
#define MILLRACE_IMAGE_PRIVATE_H

#include "image/image.h"

/*
 * How source pixels become target pixels, worked out by img_plan_fit() from
 * sizes alone: resample box to full_w x full_h, keep the window of size
 * win_w x win_h at (win_x, win_y) of that, put it at (put_x, put_y) of the
 * w x h target.
 */
typedef struct img_plan
{
	img_box_t	box;
	int			full_w,
				full_h;
	int			win_x,
				win_y,
				win_w,
				win_h;
	int			put_x,
				put_y;
} img_plan;

/* What the caller of a decoder will do with the pixels, so that a JPEG may be
 * decoded smaller.  w = 0: full size. */
typedef struct img_want
{
	bool		cover_only;		/* img_decode(): at least w x h */
	int			w,
				h;
	img_fit_mode fit;
	int			resize;
} img_want;

/* What the marker walk before libjpeg finds out. */
typedef struct img_jpeg_header
{
	int			sof;			/* the SOFn marker's byte, 0xC0.. */
	int			width,
				height,
				components,
				precision;
	int			orientation;
} img_jpeg_header;

typedef struct img_png_header
{
	uint32_t	width,
				height;
	int			bit_depth,
				color_type,
				interlace;
} img_png_header;

/* decode.c; whole_w, whole_h: upright size before any DCT scaling */
extern mr_code img_check_size(const img_limits *limits, uint64_t w, uint64_t h, mr_status *st);
extern mr_code img_alloc(const mr_env *env, int w, int h, img_pixels *out, mr_status *st);
extern mr_code img_decode_for(const mr_env *env, const uint8_t *data, size_t len,
							  const img_limits *limits, const img_want *want,
							  img_pixels *out, int *whole_w, int *whole_h, mr_status *st);

/* exif.c */
extern mr_code img_jpeg_walk(const uint8_t *data, size_t len, img_jpeg_header *h, mr_status *st);

/* jpeg.c, png.c: out is as stored, not yet turned */
extern mr_code img_jpeg_decode(const mr_env *env, const uint8_t *data, size_t len,
							   const img_limits *limits, const img_jpeg_header *h,
							   const img_want *want, img_pixels *out, mr_status *st);
extern mr_code img_png_header_read(const uint8_t *data, size_t len, img_png_header *h, mr_status *st);
extern mr_code img_png_decode(const mr_env *env, const uint8_t *data, size_t len,
							  const img_limits *limits, const img_png_header *h,
							  img_pixels *out, mr_status *st);

/* orient.c: replaces *pixels (frees the old) */
extern mr_code img_orient(const mr_env *env, img_pixels *pixels, int orientation, mr_status *st);

/* fit.c */
extern void img_plan_fit(int src_w, int src_h, int w, int h, img_fit_mode fit, int resize,
						 img_plan *plan);
extern void img_wanted_size(const img_want *want, int src_w, int src_h, int *w, int *h);

/* resize.c: the window of plan, written to dst (top left corner), stride bytes a row */
extern mr_code img_resample(const mr_env *env, const img_pixels *src, const img_plan *plan,
							img_filter filter, uint8_t *dst, size_t stride, mr_status *st);

/* Two neighbours and their weights of 2048; first counts samples from the row's start. */
typedef struct img_tap
{
	int32_t		first;
	int16_t		low,
				high;
} img_tap;

/*
 * Inner loops, one table per instruction set, bit-equal to each other.  Taps
 * are 16-bit fixed point with `shift` fraction bits.
 */
typedef struct img_kernels
{
	const char *name;

	/*
	 * n_out pixels in each of `rows` rows; pixel x is made of n_taps source
	 * pixels from first[x] on.  n_taps is a multiple of 4, padded with zeros;
	 * up to 3 pixels and 4 bytes behind a row are read.
	 */
	void		(*horizontal) (uint8_t *dst, size_t dst_stride,
							   const uint8_t *src, size_t src_stride, int rows,
							   int n_out, const int *first, const int16_t *taps,
							   int n_taps, int shift);

	/* one output row of n bytes from n_taps rows (any number), src_stride apart */
	void		(*vertical) (uint8_t *dst, const uint8_t *src, size_t src_stride, size_t n,
							 const int16_t *taps, int n_taps, int shift);

	/* n pixels of one row to three planes: (p * scale - mean) / std */
	void		(*planes) (float *const plane[3], const uint8_t *src, int n,
						   float scale, const float mean[3], const float std[3]);

	/* letterbox.c: n pixels of a row, each of a pixel and the next, to planes of
	 * (low * p[first] + high * p[first + 3]) >> 4; 8 bytes are read at each */
	void		(*linear_row) (int16_t *const plane[3], const uint8_t *src, const img_tap *taps, int n);

	/* the sums of 2 x 2 pixels, << 5; up to 8 bytes behind the rows are read */
	void		(*half_row) (int16_t *const plane[3], const uint8_t *upper, const uint8_t *lower, int n);

	/* two such rows to ((low * a >> 16) + (high * b >> 16) + 2) >> 2, as (p * scale - mean) / std */
	void		(*linear_mix) (float *dst, const int16_t *a, const int16_t *b, int16_t low, int16_t high, int n,
							   float scale, float mean, float std);
} img_kernels;

extern const img_kernels img_kernels_portable;
extern const img_kernels img_kernels_avx2;

/* The fastest this machine can run. */
extern const img_kernels *img_kernels_best(void);

/* For tests: use these instead; NULL goes back to the fastest. */
extern void img_kernels_force(const img_kernels *kernels);

#endif							/* MILLRACE_IMAGE_PRIVATE_H */
