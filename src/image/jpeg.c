/*
 * jpeg.c
 *	  JPEG to RGB by libjpeg-turbo's libjpeg interface.
 *
 * Baseline, extended, progressive and (where the library has it) arithmetic
 * coding; grey, YCbCr, RGB, CMYK and YCCK.  The size was checked by the caller.
 * What a small file may still cost is bounded here: scans are counted by the
 * progress monitor, libjpeg's memory by max_memory_to_use, and interrupts are
 * looked at by both the monitor and the row loop.
 *
 * Memory: the pixels from env; libjpeg's own by malloc, freed before return.
 */
#include "image/image_private.h"
#include "image/jpeg_error.h"

#include <string.h>

#define INVALID "invalid JPEG image"

typedef struct jpeg_job
{
	struct jpeg_decompress_struct cinfo;
	img_jpeg_error err;
	struct jpeg_progress_mgr progress;
	const mr_env *env;
	const uint8_t *data;
	size_t		len;
	const img_limits *limits;
	int			want_w,			/* as stored; 0: full size */
				want_h;
	img_pixels *out;
	uint8_t    *cmyk;			/* one row, if the image is CMYK */
} jpeg_job;

static void
monitor(j_common_ptr common)
{
	jpeg_job   *job = common->client_data;

	if (job->cinfo.input_scan_number > job->limits->max_scans)
	{
		mr_fail(job->err.st, MR_INVALID, "JPEG image has more than %d scans", job->limits->max_scans);
		mr_hint(job->err.st, "A superuser can raise millrace.image_max_scans.");
		img_jpeg_throw(&job->err, MR_INVALID);
	}
	if (mr_interrupted(job->env))
		img_jpeg_throw(&job->err, mr_fail(job->err.st, MR_CANCELED, "image decoding canceled"));
}

/*
 * The smallest of 1/8, 1/4, 1/2 and 1 that still gives want_w x want_h.
 * libjpeg-turbo could do all n/8, but has vector code for these only: measured
 * on photos of 0.2 to 1.2 megapixels, 3/8 took 3 to 20 % longer than 1/2, and
 * 5/8 to 7/8 up to twice as long as 1/1.
 */
static unsigned
dct_eighths(const jpeg_job *job)
{
	uint64_t	w = job->cinfo.image_width,
				h = job->cinfo.image_height;

	if (job->want_w <= 0 || job->want_h <= 0)
		return 8;
	for (unsigned n = 1; n < 8; n *= 2)
		if ((w * n + 7) / 8 >= (uint64_t) job->want_w && (h * n + 7) / 8 >= (uint64_t) job->want_h)
			return n;
	return 8;
}

/* Ink to light: (255 - c)(255 - k) / 255.  Adobe stores 255 - ink. */
static void
cmyk_to_rgb(const uint8_t *in, uint8_t *out, int n, bool inverted)
{
	const unsigned flip = inverted ? 0 : 255;

	for (int i = 0; i < n; i++, in += 4, out += 3)
	{
		unsigned	k = in[3] ^ flip;

		for (int c = 0; c < 3; c++)
			out[c] = (uint8_t) (((in[c] ^ flip) * k + 127) / 255);
	}
}

/* Runs inside setjmp: no local of this function is read after a jump. */
static void
decode(jpeg_job *job)
{
	struct jpeg_decompress_struct *cinfo = &job->cinfo;
	mr_code		code;

	jpeg_create_decompress(cinfo);
	cinfo->client_data = job;
	cinfo->progress = &job->progress;
	job->progress.progress_monitor = monitor;
	/* coefficients of a progressive image take 2 bytes a sample, 6 a pixel */
	cinfo->mem->max_memory_to_use = (long) (job->limits->max_pixels / 2 * 13 + (8 << 20));
	jpeg_mem_src(cinfo, job->data, job->len);
	jpeg_read_header(cinfo, TRUE);

	/* our own walk and libjpeg must have read the same header */
	code = img_check_size(job->limits, cinfo->image_width, cinfo->image_height, job->err.st);
	if (code != MR_OK)
		img_jpeg_throw(&job->err, code);

	switch (cinfo->jpeg_color_space)
	{
		case JCS_GRAYSCALE:
		case JCS_YCbCr:
		case JCS_RGB:
			cinfo->out_color_space = JCS_RGB;
			break;
		case JCS_CMYK:
		case JCS_YCCK:
			cinfo->out_color_space = JCS_CMYK;
			break;
		default:
			img_jpeg_throw(&job->err, mr_fail(job->err.st, MR_INVALID,
											  "JPEG images with %d colour components are not supported",
											  cinfo->num_components));
	}
	cinfo->scale_num = dct_eighths(job);
	cinfo->scale_denom = 8;
	/* guessing missing coefficients costs much and only flatters broken files */
	cinfo->do_block_smoothing = FALSE;

	jpeg_start_decompress(cinfo);
	code = img_alloc(job->env, (int) cinfo->output_width, (int) cinfo->output_height, job->out, job->err.st);
	if (code != MR_OK)
		img_jpeg_throw(&job->err, code);
	if (cinfo->out_color_space == JCS_CMYK)
	{
		job->cmyk = mr_alloc(job->env, (size_t) cinfo->output_width * 4 + IMG_SLACK);
		if (job->cmyk == NULL)
			img_jpeg_throw(&job->err, mr_fail(job->err.st, MR_NOMEM, "out of memory decoding an image"));
	}

	while (cinfo->output_scanline < cinfo->output_height)
	{
		JSAMPROW	rows[16];
		unsigned	n;

		if (job->cmyk)
		{
			uint8_t    *to = job->out->data + cinfo->output_scanline * job->out->stride;

			rows[0] = job->cmyk;
			if (jpeg_read_scanlines(cinfo, rows, 1) == 1)
				cmyk_to_rgb(job->cmyk, to, job->out->width, cinfo->saw_Adobe_marker);
		}
		else
		{
			for (n = 0; n < 16 && cinfo->output_scanline + n < cinfo->output_height; n++)
				rows[n] = job->out->data + (cinfo->output_scanline + n) * job->out->stride;
			jpeg_read_scanlines(cinfo, rows, n);
		}
		if (mr_interrupted(job->env))
			img_jpeg_throw(&job->err, mr_fail(job->err.st, MR_CANCELED, "image decoding canceled"));
	}
	/* reads on to the end marker: a file that lacks it was cut short */
	jpeg_finish_decompress(cinfo);
}

static mr_code
run(jpeg_job *job)
{
	if (setjmp(job->err.jump) == 0)
		decode(job);
	return job->err.code;
}

mr_code
img_jpeg_decode(const mr_env *env, const uint8_t *data, size_t len, const img_limits *limits,
				const img_jpeg_header *h, const img_want *want, img_pixels *out, mr_status *st)
{
	jpeg_job	job;
	mr_code		code;
	bool		swap = h->orientation >= 5;

	memset(out, 0, sizeof(*out));
	if (h->precision != 8)
		return mr_fail(st, MR_INVALID, "JPEG images of %d bits a sample are not supported", h->precision);
	if (h->sof == 0xC3 || h->sof >= 0xC5)
		if (h->sof != 0xC9 && h->sof != 0xCA)
		{
			mr_fail(st, MR_INVALID, "JPEG coding process %d is not supported", h->sof - 0xC0);
			mr_detail(st, "Lossless and hierarchical JPEG cannot be decoded.");
			return MR_INVALID;
		}

	memset(&job.cinfo, 0, sizeof(job.cinfo));
	memset(&job.progress, 0, sizeof(job.progress));
	job.cinfo.err = img_jpeg_error_init(&job.err, INVALID, st);
	job.env = env;
	job.data = data;
	job.len = len;
	job.limits = limits;
	job.out = out;
	job.cmyk = NULL;
	img_wanted_size(want, swap ? h->height : h->width, swap ? h->width : h->height,
					swap ? &job.want_h : &job.want_w, swap ? &job.want_w : &job.want_h);

	code = run(&job);
	jpeg_destroy_decompress(&job.cinfo);
	mr_free(env, job.cmyk);
	if (code != MR_OK)
		img_free(env, out);
	return code;
}
