/*
 * init_pg.c
 *	  The text room's start.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "text/flat_pg.h"
#include "text/text_pg.h"

void
text_init(void)
{
	reg_add_kind(&txt_encoder_kind);
	flat_init();
}
