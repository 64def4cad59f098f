/*
 * facts.h
 *	  What can be said of an image's pixels in numbers: hashes, quality, damage.
 *
 * Pure core.  Everything is computed from decoded, upright pixels, most of it
 * from a small copy (img_small), so that a photo costs little more than its
 * decoding.  All sums are integers: the same pixels give the same figures on
 * every machine.  Errors are MR_NOMEM and MR_CANCELED only.
 */
#ifndef MILLRACE_IMAGE_FACTS_H
#define MILLRACE_IMAGE_FACTS_H

#include "image/image.h"

/* The longer side of the small copy; a multiple of 12, so that halves, thirds and quarters are whole pixels. */
#define IMG_SMALL_SIDE 240

/* A thumbnail's width and height, and its numbers. */
#define IMG_THUMB_SIDE 8
#define IMG_THUMB_LEN (3 * IMG_THUMB_SIDE * IMG_THUMB_SIDE)

/* Up to so many pixels are counted for brightness, contrast, entropy and colourfulness. */
#define IMG_SAMPLED_PIXELS (1 << 18)

/* Luma below which a pixel is dark, above which it is bright (0.32 and 0.95 of 255, as cleanvision has them). */
#define IMG_DARK_BELOW 82
#define IMG_BRIGHT_ABOVE 242

/*
 * Of the whole image if it has up to IMG_SAMPLED_PIXELS, else of every k-th
 * pixel of every k-th row.  Luma is ITU-R 601, rounded, 0..255.
 */
typedef struct img_figures
{
	float		brightness;		/* mean luma, 0..255 */
	float		dark_share;		/* of pixels with luma < IMG_DARK_BELOW, 0..1 */
	float		bright_share;	/* of pixels with luma > IMG_BRIGHT_ABOVE, 0..1 */
	float		contrast;		/* standard deviation of luma (RMS contrast), 0..127.5 */
	float		entropy;		/* of the histogram of luma, bits, 0..8 */
	float		colourfulness;	/* Hasler and Suesstrunk, 2003, M3; 0 is grey */
} img_figures;

typedef struct img_facts
{
	img_figures figures;
	float		sharpness;		/* variance of the Laplacian of the small copy's luma */
	float		black_corners;	/* share of the image in corners that a rotation left empty, 0..1 */
	float		repeated;		/* share of the tiles of a grid that are copies of others, 0..1 */
	bool		grey;			/* every pixel: red = green = blue */
	uint64_t	hash[8];		/* img_hash() */
	float		thumbnail[IMG_THUMB_LEN];	/* rows of pixels of RGB; mean of each channel 0, unit length; all 0 if flat */
	uint8_t		digest[32];		/* SHA-256 of width, height (32 bits, big-endian) and RGB rows */
} img_facts;

/* Everything at once. */
extern mr_code img_facts_of(const mr_env *env, const img_pixels *src, img_facts *out, mr_status *st);

/* The same sharpness alone. */
extern mr_code img_sharpness(const mr_env *env, const img_pixels *src, float *out, mr_status *st);

/*
 * The small copy: its longer side is IMG_SMALL_SIDE, its shorter side a
 * multiple of 12 where there are that many pixels.  Images that are no larger
 * are copied as they are.  Antialiased.
 */
extern mr_code img_small(const mr_env *env, const img_pixels *src, img_pixels *out, mr_status *st);

/* width * height bytes of luma from env. */
extern mr_code img_luma(const mr_env *env, const img_pixels *src, uint8_t **out, mr_status *st);

/* The thumbnail of img_facts alone, with its length. */
extern mr_code img_thumbnail(const mr_env *env, const img_pixels *src, float out[IMG_THUMB_LEN], mr_status *st);

/*
 * The pixels that a box (corners in pixels, exclusive) touches, as a view into src, whose memory it shares; false
 * where there are none or the box is not a number.
 */
extern bool img_crop(const img_pixels *src, const float box[4], img_pixels *view);

/* One pixel's luma as Pillow's convert("L") rounds it. */
static inline uint8_t
img_luma_of(const uint8_t *rgb)
{
	return (uint8_t) ((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000u) >> 16);
}

/*
 * hash.c: the perceptual hash of an image as it is [0], mirrored left to right
 * [1], upside down [2], turned by 180 degrees [3], transposed [4], turned right
 * [5], turned left [6], transposed over the other diagonal [7].
 */
extern mr_code img_hash(const mr_env *env, const img_pixels *small, uint64_t hash[8], mr_status *st);
extern void img_hash_of_luma(const uint8_t *luma, uint64_t hash[8]);	/* 32 x 32 */

static inline int
img_hash_distance(uint64_t a, uint64_t b)
{
	return __builtin_popcountll(a ^ b);
}

/* quality.c */
extern mr_code img_figures_of(const mr_env *env, const img_pixels *src, img_figures *out, mr_status *st);
extern mr_code img_is_grey(const mr_env *env, const img_pixels *src, bool *grey, mr_status *st);
extern mr_code img_laplacian(const mr_env *env, const uint8_t *luma, int w, int h, int16_t **out, mr_status *st);
extern float img_variance(const int16_t *v, size_t n);

/* damage.c: traces of augmentation, in the small copy */
extern float img_black_corners(const img_pixels *small);
extern float img_repeated_tiles(const int16_t *laplacian, int w, int h);

#endif							/* MILLRACE_IMAGE_FACTS_H */
