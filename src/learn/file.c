/*
 * file.c
 *	  Headers of model bytes and prediction files, and what is common to all
 *	  algorithms when they are checked, compiled and opened.
 *
 * Model bytes: "MRLEARN" and a zero byte, u32 format (1), u32 algorithm, u32
 * features, u32 classes, u32 outputs, u32 task (0 = the algorithm's first, else
 * task + 1; plus 256 where a calibration stands before the body), u64 length of
 * what follows the header, u64 checksum of all before it and of that, 16 zero
 * bytes; then the calibration (calibrate_file.c) and the body.
 */
#include "learn/calibrate.h"
#include "learn/learner.h"

#include <string.h>

#define FORMAT		1
#define SUM_AT		40			/* offset of the checksum */
#define CALIBRATED	256			/* bit of the task */

static const char magic[8] = "MRLEARN";
static const char flat_magic[8] = {'M', 'R', 'P', 'R', 'E', 'D', 'I', 'C'};

mr_code
lrn_corrupt(mr_status *st, const char *why)
{
	mr_fail(st, MR_CORRUPT, "model file is damaged");
	mr_detail(st, "%s.", why);
	return MR_CORRUPT;
}

mr_code
lrn_out_of_memory(mr_status *st)
{
	return mr_fail(st, MR_NOMEM, "out of memory");
}

mr_code
lrn_canceled(mr_status *st)
{
	return mr_fail(st, MR_CANCELED, "canceled");
}

mr_code
lrn_over_limit(mr_status *st, size_t need, size_t limit)
{
	mr_fail(st, MR_LIMIT, "training needs more memory than allowed");
	mr_detail(st, "At least %zu MB are needed beyond the data, %zu MB are left.",
			  (need >> 20) + 1, limit >> 20);
	return MR_LIMIT;
}

void
lrn_file_begin(lrn_writer *w, const mr_env *env, size_t limit)
{
	static const uint8_t zero[LRN_HEADER];

	*w = (lrn_writer) {.env = env, .limit = limit};
	lrn_put(w, zero, sizeof(zero));
}

mr_code
lrn_file_end(lrn_writer *w, const lrn_info *info, mr_status *st)
{
	/* A second writer over the first's header keeps one way to write numbers. */
	lrn_writer	h = {.env = w->env, .data = w->data, .size = LRN_HEADER};
	uint64_t	sum;

	if (w->failed == MR_LIMIT)
		return lrn_over_limit(st, w->size + w->size / 2, w->limit);
	if (w->failed)
		return lrn_out_of_memory(st);
	lrn_put(&h, magic, sizeof(magic));
	lrn_put_u32(&h, FORMAT);
	lrn_put_u32(&h, (uint32_t) info->algorithm);
	lrn_put_u32(&h, (uint32_t) info->n_features);
	lrn_put_u32(&h, (uint32_t) info->n_classes);
	lrn_put_u32(&h, (uint32_t) info->n_outputs);
	lrn_put_u32(&h, (info->task == lrn_first_task(info->algorithm) ? 0 : (uint32_t) info->task + 1) |
				(w->calibrated ? CALIBRATED : 0));
	lrn_put_u64(&h, w->len - LRN_HEADER);
	sum = lrn_checksum(0, w->data, SUM_AT);
	sum = lrn_checksum(sum, w->data + LRN_HEADER, w->len - LRN_HEADER);
	lrn_put_u64(&h, sum);
	return MR_OK;
}

bool
lrn_section_fits(const lrn_flat_header *h, int section, uint64_t n, size_t size)
{
	uint64_t	at = h->section[section];

	return at % 64 == 0 && at >= sizeof(*h) && at <= h->file_len && n <= (h->file_len - at) / size;
}

const void *
lrn_section(const lrn_flat_header *h, int section)
{
	return h->section[section] ? (const uint8_t *) h + h->section[section] : NULL;
}

/* Numbers of a header that later code relies on. */
static bool
info_is_sane(const lrn_info *info)
{
	const lrn_learner *l = lrn_learner_of(info->algorithm);

	return l && (l->tasks & LRN_CAN(info->task)) &&
		info->n_features >= 1 && info->n_features <= LRN_MAX_FEATURES &&
		info->n_outputs >= 1 && info->n_outputs <= LRN_MAX_CLASSES &&
		(info->task == LRN_CLASSIFY) == (info->n_classes > 0) && l->sane(info);
}

/* The calibration's reader is empty if there is none. */
static mr_code
open_file(const uint8_t *bytes, size_t len, lrn_info *info, lrn_reader *calibration, lrn_reader *r, mr_status *st)
{
	bool		calibrated;
	uint64_t	sum,
				body;
	uint32_t	number[6];

	if (len < LRN_HEADER || memcmp(bytes, magic, sizeof(magic)) != 0)
		return lrn_corrupt(st, "It does not begin as a trained model does");
	*r = (lrn_reader) {bytes + sizeof(magic), bytes + LRN_HEADER, false};
	for (int i = 0; i < 6; i++)
		number[i] = lrn_get_u32(r);
	if (number[0] != FORMAT)
	{
		mr_fail(st, MR_UNSUPPORTED, "model file has format %u, this version reads format %d",
				number[0], FORMAT);
		return MR_UNSUPPORTED;
	}
	body = lrn_get_u64(r);
	if (body != len - LRN_HEADER)
		return lrn_corrupt(st, "Its length differs from what its header says");
	sum = lrn_checksum(0, bytes, SUM_AT);
	sum = lrn_checksum(sum, bytes + LRN_HEADER, len - LRN_HEADER);
	if (lrn_get_u64(r) != sum)
		return lrn_corrupt(st, "Its checksum does not match");
	calibrated = number[5] & CALIBRATED;
	number[5] &= ~(uint32_t) CALIBRATED;
	for (int i = 2; i < 6; i++)
		if (number[i] > LRN_MAX_FEATURES || (i == 5 && number[i] > LRN_CLUSTER + 1))
			return lrn_corrupt(st, "Its dimensions are out of range");
	info->algorithm = (lrn_algorithm) number[1];
	info->n_features = (int) number[2];
	info->n_classes = (int) number[3];
	info->n_outputs = (int) number[4];
	info->task = number[5] == 0 ? lrn_first_task(info->algorithm) : (lrn_task) (number[5] - 1);
	if (!info_is_sane(info))
		return lrn_corrupt(st, "Its dimensions are out of range");
	*r = (lrn_reader) {bytes + LRN_HEADER, bytes + len, false};
	*calibration = (lrn_reader) {0};
	if (calibrated)
	{
		uint32_t	size = lrn_get_u32(r);

		if (r->bad || size > (size_t) (r->end - r->p))
			return lrn_corrupt(st, "Its calibration is longer than the file");
		*calibration = (lrn_reader) {r->p, r->p + size, false};
		r->p += size;
	}
	return MR_OK;
}

mr_code
lrn_file_open(const uint8_t *bytes, size_t len, lrn_info *info, lrn_reader *r, mr_status *st)
{
	lrn_reader	calibration;

	return open_file(bytes, len, info, &calibration, r, st);
}

mr_code
lrn_check(const uint8_t *bytes, size_t len, lrn_info *info, mr_status *st)
{
	lrn_reader	calibration,
				r;
	mr_code		code = open_file(bytes, len, info, &calibration, &r, st);

	if (code == MR_OK && calibration.p)
		code = lrn_calibration_check(calibration, info, st);
	if (code)
		return code;
	return lrn_learner_of(info->algorithm)->check(&r, info, st);
}

mr_code
lrn_compile(const mr_env *env, const uint8_t *bytes, size_t len,
			uint8_t **file, size_t *file_len, mr_status *st)
{
	lrn_info	info;
	lrn_reader	calibration,
				r;
	lrn_flat_header *h;
	mr_code		code = open_file(bytes, len, &info, &calibration, &r, st);

	if (code)
		return code;
	code = lrn_learner_of(info.algorithm)->compile(env, &r, &info, file, file_len, st);
	if (code)
		return code;
	((lrn_flat_header *) *file)->calibration = 0;
	if (calibration.p)
		code = lrn_calibration_compile(env, calibration, &info, file, file_len, st);
	if (code)
	{
		mr_free(env, *file);
		*file = NULL;
		return code;
	}
	h = (lrn_flat_header *) *file;
	memcpy(h->magic, flat_magic, sizeof(flat_magic));
	h->version = LRN_COMPILER_VERSION;
	h->endian = 0x01020304;
	h->algorithm = (uint32_t) info.algorithm;
	h->n_features = (uint32_t) info.n_features;
	h->n_classes = (uint32_t) info.n_classes;
	h->n_outputs = (uint32_t) info.n_outputs;
	h->task = (uint32_t) info.task;
	h->file_len = *file_len;
	h->checksum = lrn_checksum(0, *file + sizeof(*h), *file_len - sizeof(*h));
	return MR_OK;
}

mr_code
lrn_open(const void *file, size_t len, lrn_model *model, mr_status *st)
{
	const lrn_flat_header *h = file;

	memset(model, 0, sizeof(*model));
	if (((uintptr_t) file & 63) != 0)
		return mr_fail(st, MR_INTERNAL, "prediction file is not aligned to 64 bytes");
	if (len < sizeof(*h) || memcmp(h->magic, flat_magic, sizeof(flat_magic)) != 0 ||
		h->version != LRN_COMPILER_VERSION || h->endian != 0x01020304 || h->file_len != len)
		return lrn_corrupt(st, "It is not a prediction file of this version");
	if (lrn_checksum(0, (const uint8_t *) file + sizeof(*h), len - sizeof(*h)) != h->checksum)
		return lrn_corrupt(st, "Its checksum does not match");
	if (h->n_features > LRN_MAX_FEATURES || h->n_classes > LRN_MAX_CLASSES || h->n_outputs > LRN_MAX_CLASSES ||
		h->task > LRN_CLUSTER)
		return lrn_corrupt(st, "Its dimensions are out of range");
	model->base = file;
	model->info.algorithm = (lrn_algorithm) h->algorithm;
	model->info.n_features = (int) h->n_features;
	model->info.n_classes = (int) h->n_classes;
	model->info.n_outputs = (int) h->n_outputs;
	model->info.task = (lrn_task) h->task;
	model->isa = lrn_isa_best();
	if (!info_is_sane(&model->info))
		return lrn_corrupt(st, "Its dimensions are out of range");
	model->learner = lrn_learner_of(model->info.algorithm);
	if (h->calibration)
	{
		mr_code		code = lrn_calibration_open(h, model, st);

		if (code)
			return code;
	}
	return model->learner->open(h, model, st);
}
