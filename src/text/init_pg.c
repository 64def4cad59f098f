/*
 * init_pg.c
 *	  The text room's start.
 */
#include "postgres.h"

#include "core/core_pg.h"
<<<<<<< HEAD
=======
#include "text/flat_pg.h"
>>>>>>> main
#include "text/text_pg.h"

void
text_init(void)
{
	reg_add_kind(&txt_encoder_kind);
<<<<<<< HEAD
=======
	flat_init();
>>>>>>> main
}
