/*
 * registry_pg.c
 *	  The registry room's settings.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "registry/model.h"
#include "registry/progress.h"
#include "registry/settings.h"
#include "utils/guc.h"

char	   *reg_descriptor_model = NULL;
char	   *reg_classifier = NULL;
char	   *reg_text_encoder = NULL;
char	   *reg_detector = NULL;

void
registry_init(void)
{
	DefineCustomStringVariable("millrace.descriptor_model",
							   "Model that extract_descriptors() uses when none is named.",
							   "A reference: name, name@alias or name:version.",
							   &reg_descriptor_model, "cifar10_pca20",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("millrace.classifier",
							   "Model that classify() uses when none is named.",
							   "A reference: name, name@alias or name:version.",
							   &reg_classifier, "cifar10_balanced",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("millrace.text_encoder",
							   "Model that embed() and other functions of texts use when none is named.",
							   "A reference: name, name@alias or name:version.",
							   &reg_text_encoder, "minilm",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("millrace.detector",
							   "Model that detect() and detections_json() use when none is named.",
							   "A reference: name, name@alias or name:version.",
							   &reg_detector, "detector",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	reg_resolve_init();
	reg_stat_init();
	reg_progress_init();
}
