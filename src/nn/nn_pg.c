/*
 * nn_pg.c
 *	  The nn room's settings.
 *
 * The engine itself is pure; models, versions and inference functions are the
 * registry's.  Limits guard against hostile or huge model files: they are the
 * superuser's, the instruction set is anyone's (it only changes speed).
 */
#include "postgres.h"

#include <limits.h>

#include "core/core_pg.h"
#include "nn/nn_pg.h"
#include "utils/guc.h"

static int	nn_isa_setting = nn_isa_auto;
static int	nn_max_model_kb = 1024 * 1024;
static int	nn_max_memory_kb = 1024 * 1024;
static int	nn_max_nodes_setting = 100000;

static const struct config_enum_entry isa_entries[] = {
	{"auto", nn_isa_auto, false},
	{"portable", nn_isa_portable, false},
	{"avx2", nn_isa_avx2, false},
	{"avx512", nn_isa_avx512, false},
	{"avx512_vnni", nn_isa_avx512_vnni, false},
	{"avx512_bf16", nn_isa_avx512_bf16, false},
	{"amx", nn_isa_amx, false},
	{NULL, 0, false}
};

static bool
check_isa(int *newval, void **extra, GucSource source)
{
	if (nn_isa_available((nn_isa) *newval))
		return true;
	GUC_check_errcode(ERRCODE_FEATURE_NOT_SUPPORTED);
	GUC_check_errmsg("this CPU does not support instruction set \"%s\"",
					 nn_isa_name((nn_isa) *newval));
	GUC_check_errhint("The best one available is \"%s\".", nn_isa_name(nn_isa_best()));
	return false;
}

nn_options
nn_pg_options(void)
{
	nn_options	opt = nn_default_options;

	opt.isa = nn_isa_setting == nn_isa_auto ? nn_isa_best() : (nn_isa) nn_isa_setting;
	opt.max_model_bytes = (size_t) nn_max_model_kb * 1024;
	opt.max_memory = (size_t) nn_max_memory_kb * 1024;
	opt.max_nodes = (size_t) nn_max_nodes_setting;
	return opt;
}

void
nn_init(void)
{
	DefineCustomEnumVariable("millrace.isa",
							 "Instruction set of the neural network kernels.",
							 "\"auto\" takes the best that the CPU has; the others force one, for tests.",
							 &nn_isa_setting, nn_isa_auto, isa_entries, PGC_USERSET, 0,
							 check_isa, NULL, NULL);
	DefineCustomIntVariable("millrace.nn_max_model_bytes",
							"Largest model, of one file or several, that import accepts.",
							NULL,
							&nn_max_model_kb, 1024 * 1024, 1, 2 * 1024 * 1024 - 1,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.max_model_memory",
							"Most memory that a compiled model and the work space of a run may take.",
							"Checked when the model is compiled, before any of it is allocated.",
							&nn_max_memory_kb, 1024 * 1024, 1, INT_MAX,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.nn_max_nodes",
							"Most nodes that the graph of an imported model may have.",
							NULL,
							&nn_max_nodes_setting, 100000, 1, 10000000,
							PGC_SUSET, 0, NULL, NULL, NULL);
}
