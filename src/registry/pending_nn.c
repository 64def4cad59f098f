/*
 * pending_nn.c
 *	  Holds the engine's place until it lands: weak, so that the engine's own
 *	  functions win.  Removed then.
 */
#include "nn/nn.h"

#define WEAK __attribute__((weak))

WEAK mr_code
nn_check(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
		 nn_summary *out, mr_status *st)
{
	return mr_fail(st, MR_UNSUPPORTED, "this build has no engine for ONNX models");
}

WEAK void
nn_summary_free(const mr_env *env, nn_summary *summary)
{
}

WEAK mr_code
nn_compile(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
		   uint8_t **file, size_t *file_len, mr_status *st)
{
	return mr_fail(st, MR_UNSUPPORTED, "this build has no engine for ONNX models");
}

WEAK mr_code
nn_open(const void *file, size_t len, nn_model *model, mr_status *st)
{
	return mr_fail(st, MR_UNSUPPORTED, "this build has no engine for ONNX models");
}

WEAK size_t
nn_workspace(const nn_model *model)
{
	return 0;
}

WEAK int
nn_n_inputs(const nn_model *model)
{
	return 0;
}

WEAK int
nn_n_outputs(const nn_model *model)
{
	return 0;
}

WEAK const nn_tensor_info *
nn_input(const nn_model *model, int i)
{
	return NULL;
}

WEAK const nn_tensor_info *
nn_output(const nn_model *model, int i)
{
	return NULL;
}

WEAK int
nn_find_output(const nn_model *model, const char *name)
{
	return -1;
}

WEAK mr_code
nn_run(const nn_model *model, const mr_env *env, void *workspace, int batch,
	   const float *const *inputs, float *const *outputs, mr_status *st)
{
	return mr_fail(st, MR_UNSUPPORTED, "this build has no engine for ONNX models");
}

WEAK mr_code
nn_run_typed(const nn_model *model, const mr_env *env, void *workspace, int batch,
			 const void *const *inputs, void *const *outputs, mr_status *st)
{
	return mr_fail(st, MR_UNSUPPORTED, "this build has no engine for ONNX models");
}
