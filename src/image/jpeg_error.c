/*
 * jpeg_error.c
 *	  Which of libjpeg's complaints are fatal, and how they read.
 *
 * A damaged image must not pass as a good one, so every warning that means
 * lost or invented pixels is an error here.  Tolerated are those that lose
 * nothing: stray bytes between segments, odd APPn contents, a scan header that
 * names spectral bounds a sequential image does not use.
 */
#include "image/jpeg_error.h"

#include <ctype.h>
#include <jerror.h>

void
img_jpeg_throw(img_jpeg_error *err, mr_code code)
{
	err->code = code;
	longjmp(err->jump, 1);
}

static void
fail(j_common_ptr cinfo)
{
	img_jpeg_error *err = (img_jpeg_error *) cinfo->err;
	char		text[JMSG_LENGTH_MAX];

	cinfo->err->format_message(cinfo, text);
	if (cinfo->err->msg_code == JERR_OUT_OF_MEMORY)
		img_jpeg_throw(err, mr_fail(err->st, MR_NOMEM, "out of memory in the JPEG codec"));
	if (cinfo->err->msg_code == JERR_NO_BACKING_STORE || cinfo->err->msg_code == JERR_TFILE_CREATE)
	{
		mr_fail(err->st, MR_INVALID, "%s: it needs more than %ld MB of working memory",
				err->what, cinfo->mem->max_memory_to_use >> 20);
		mr_hint(err->st, "A superuser can raise millrace.image_max_pixels, on which this bound depends.");
		img_jpeg_throw(err, MR_INVALID);
	}
	/* "Bogus marker length" reads better in the middle of a sentence in lower case */
	if (isupper((unsigned char) text[0]) && islower((unsigned char) text[1]))
		text[0] = (char) tolower((unsigned char) text[0]);
	img_jpeg_throw(err, mr_fail(err->st, MR_INVALID, "%s: %s", err->what, text));
}

static void
message(j_common_ptr cinfo, int level)
{
	if (level >= 0)
		return;					/* trace */
	cinfo->err->num_warnings++;
	switch (cinfo->err->msg_code)
	{
		case JWRN_EXTRANEOUS_DATA:
		case JWRN_ADOBE_XFORM:
		case JWRN_JFIF_MAJOR:
		case JWRN_NOT_SEQUENTIAL:
		case JWRN_TOO_MUCH_DATA:
#if LIBJPEG_TURBO_VERSION_NUMBER >= 2000000
		case JWRN_BOGUS_ICC:
#endif
			return;
		default:
			fail(cinfo);
	}
}

static void
output(j_common_ptr cinfo)
{
	/* never to stderr */
}

struct jpeg_error_mgr *
img_jpeg_error_init(img_jpeg_error *err, const char *what, mr_status *st)
{
	jpeg_std_error(&err->pub);
	err->pub.error_exit = fail;
	err->pub.emit_message = message;
	err->pub.output_message = output;
	err->what = what;
	err->code = MR_OK;
	err->st = st;
	return &err->pub;
}
