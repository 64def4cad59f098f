/*
 * detect_pg.c
 *	  Images through detectors: the network's part of detect().
 *
 * What the numbers mean is room quality's business.
 * Memory: one block of reg_scratch() holds input, outputs and the network's work.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "image/image_pg.h"
#include "nn/nn_pg.h"
#include "registry/detect.h"
#include "registry/run.h"

#define OPEN_SIDE 640			/* Ultralytics' imgsz and stride */
#define OPEN_STRIDE 32
#define DETECTOR_PAD 114
#define ALIGN64(n) (((n) + 63) & ~(size_t) 63)

/* Raises unless it is a network that takes one image of three planes. */
static void
check_detector(const reg_model *m)
{
	reg_loaded *l = m->loaded;

	if (m->kind != REG_ONNX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" (%s) is not a detector", m->reference, reg_kind_name(m->kind)),
				 errhint("Import a detector as an ONNX file with millrace.import_model().")));
	reg_load(m);
	if (nn_n_inputs(&l->nn) != 1 || l->spec.prep.width == 0 || l->spec.prep.grey)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" is not a detector", m->reference),
				 l->spec.prep.grey ? errdetail("It takes images of one grey plane.") :
				 errdetail("It has %d inputs; the first, \"%s\", has %d dimensions.", nn_n_inputs(&l->nn),
						   nn_input(&l->nn, 0)->name, nn_input(&l->nn, 0)->rank)));
	if (l->spec.has_fit && l->spec.prep.fit != img_fit_contain)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" is not prepared for detection", m->reference),
				 errdetail("Its specification fits images otherwise than in a letterbox."),
				 errhint("Import it without \"fit\", or with \"contain\".")));
	if (nn_output(&l->nn, l->output)->dtype != nn_float32)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" is not a detector", m->reference),
				 errdetail("Output \"%s\" has elements of type %s.", nn_output(&l->nn, l->output)->name,
						   nn_dtype_name((nn_dtype) nn_output(&l->nn, l->output)->dtype))));
}

/* The letterbox of an image, and the plan that takes it. */
static const nn_model *
choose_plan(const reg_model *m, const img_info *info, img_letterbox *box)
{
	reg_loaded *l = m->loaded;
	const nn_tensor_info *in = nn_input(&l->nn, 0);
	bool		turned = info->orientation >= 5;
	int			w = turned ? info->height : info->width;
	int			h = turned ? info->width : info->height;
	bool		open = in->declared[2] == -1 && in->declared[3] == -1 && !l->spec.has_size;
	nn_shape	shape = {.rank = 4};
	const nn_model *plan;
	int			batch;

	if (!open)
	{
		img_plan_letterbox(w, h, l->spec.prep.width, l->spec.prep.height, 0, box);
		return &l->nn;
	}
	img_plan_letterbox(w, h, OPEN_SIDE, OPEN_SIDE, OPEN_STRIDE, box);
	shape.dims[0] = 1;
	shape.dims[1] = 3;
	shape.dims[2] = box->height;
	shape.dims[3] = box->width;
	plan = reg_find_plan(m, 1, &shape, &batch);
	if (plan == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" does not take images of %d x %d pixels", m->reference, box->width, box->height)));
	return plan;
}

mr_code
reg_see(const reg_model *m, const uint8 *image, size_t size, reg_seen *out, mr_status *st)
{
	const img_limits *limits = img_current_limits();
	mr_env		env = mr_pg_env(NULL);
	const nn_model *plan;
	img_prep	prep;
	img_info	info;
	size_t		input_size,
				output_size;
	const void *inputs[NN_MAX_PORTS];
	void	   *outputs[NN_MAX_PORTS] = {0};
	nn_shape	shapes[NN_MAX_PORTS];
	float	   *input;
	char	   *answer;
	mr_code		code;

	reg_stat_ask(m);
	check_detector(m);
	code = reg_image_failed(img_probe(&env, image, size, limits, &info, st), st);
	if (code != MR_OK)
		return code;
	plan = choose_plan(m, &info, &out->box);
	prep = m->loaded->spec.prep;
	if (!m->loaded->spec.has_pad)
		prep.pad = DETECTOR_PAD;
	out->output = nn_output(plan, m->loaded->output);
	input_size = ALIGN64(sizeof(float) * 3 * (size_t) out->box.width * (size_t) out->box.height);
	output_size = ALIGN64(sizeof(float) * (size_t) out->output->elements);
	input = reg_scratch(input_size + output_size + nn_workspace(plan));
	answer = (char *) input + input_size;

	env = reg_image_env();
	code = reg_image_failed(img_letterbox_to_tensor(&env, image, size, limits, &prep, &out->box, input, st), st);
	if (code != MR_OK)
		return code;
	env = mr_pg_env(NULL);
	inputs[0] = input;
	outputs[m->loaded->output] = answer;
	reg_stat_start(m, 1);
	code = nn_run_shaped(plan, &env, answer + output_size, 1, inputs, outputs, shapes, st);
	reg_stat_end(m, 1);
	if (code != MR_OK)
		mr_pg_raise(st);
	out->shape = shapes[m->loaded->output];
	out->numbers = (const float *) answer;
	return MR_OK;
}

void
reg_question_key(const reg_model *m, const uint8 *image, size_t size, const void *asked, size_t asked_size, uint8 key[32])
{
	uint64		rest[2] = {m->loaded->spec_hash, (uint64) nn_pg_options().isa};
	size_t		len = 32 + 32 + sizeof(rest) + asked_size;
	uint8	   *all = palloc(len);

	reg_sha256(image, size, all);
	memcpy(all + 32, m->sha256, 32);
	memcpy(all + 64, rest, sizeof(rest));
	memcpy(all + 64 + sizeof(rest), asked, asked_size);
	reg_sha256(all, len, key);
	pfree(all);
}
