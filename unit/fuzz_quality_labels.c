/*
 * fuzz_quality_labels.c
 *	  Any bytes as an annotation file of each format: no error, and rows that are text and finite.
 *
 * make unit/bin/fuzz_quality_labels && unit/bin/fuzz_quality_labels -max_total_time=60 corpus/
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "quality/labels.h"

static void
check(void *arg, const qlt_label *l)
{
	const char *texts[] = {l->image, l->class_name, l->detail};

	(void) arg;
	for (int i = 0; i < 3; i++)
		if (texts[i] && (!mr_utf8(texts[i], strlen(texts[i])) || strlen(texts[i]) > QLT_NAME_LEN))
			abort();
	for (int i = 0; i < 4; i++)
		if (l->has_box && !(fabs(l->box[i]) <= QLT_PIXEL_LIMIT))
			abort();
	if (l->problem && strlen(l->problem) > 30)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	mr_status	st;

	if (size == 0)
		return 0;
	if (qlt_labels_read(&mr_env_malloc, (qlt_label_format) (data[0] % (QLT_VOC_ZERO + 1)), (const char *) data + 1, size - 1, 640, 480, check, NULL, &st) != MR_OK)
		abort();
	return 0;
}
