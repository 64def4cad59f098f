/*
 * fuzz_image.c
 *	  libFuzzer: any bytes give pixels and what can be measured of them, or a clean error, quickly
 *	  and in bounds.
 *
 * make fuzz (clang with libFuzzer), then
 *	  unit/bin/fuzz_image -max_len=65536 -rss_limit_mb=512 -timeout=2 CORPUS
 *
 * The first byte chooses size, fit and filter, the rest is the file.  Limits
 * are lower than the default so that executions stay short.
 */
#include <stdlib.h>

#include "image/facts.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const img_limits limits = {1 << 20, 1 << 20, 4096, 30, 200};
	static float out[3 * 64 * 64];
	img_prep	prep = {.scale = 1 / 255.0f, .std = {1, 1, 1}};
	img_info	info;
	img_pixels	pixels;
	img_facts	facts;
	mr_status	st;
	mr_code		code;

	if (len == 0)
		return 0;
	prep.width = 1 + (data[0] & 63);
	prep.height = 64 - (data[0] & 31);
	prep.fit = (img_fit_mode) (data[0] & 3);
	prep.filter = (img_filter) ((data[0] >> 2) % 5);
	prep.bgr = data[0] & 64;
	prep.grey = data[0] & 128;
	data++;
	len--;

	code = img_decode(&mr_env_malloc, data, len, &limits, 0, 0, &pixels, &st);
	if (code == MR_OK)
	{
		/* what decodes has a header that says the same */
		if (img_probe(&mr_env_malloc, data, len, &limits, &info, &st) != MR_OK ||
			(info.orientation > 4 ? info.height : info.width) != pixels.width)
			abort();
		if (img_facts_of(&mr_env_malloc, &pixels, &facts, &st) != MR_OK || !(facts.figures.entropy >= 0 && facts.figures.entropy <= 8) ||
			!(facts.black_corners <= 1 && facts.repeated <= 1 && facts.sharpness >= 0))
			abort();
	}
	else if ((code != MR_INVALID && code != MR_NOMEM) || pixels.data != NULL || st.message[0] == '\0')
		abort();
	img_free(&mr_env_malloc, &pixels);

	if (img_to_tensor(&mr_env_malloc, data, len, &limits, &prep, out, &st) == MR_OK)
		for (int i = 0; i < img_prep_channels(&prep) * prep.width * prep.height; i++)
			if (!(out[i] >= 0 && out[i] <= 1))
				abort();
	return 0;
}
