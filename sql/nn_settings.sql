-- The engine's settings: anyone chooses the instruction set, only superusers the limits.
SELECT millrace.version() IS NOT NULL AS library_loaded;
SELECT name, vartype, context, boot_val FROM pg_settings
WHERE name IN ('millrace.isa', 'millrace.nn_max_model_bytes', 'millrace.max_model_memory', 'millrace.nn_max_nodes') ORDER BY 1;
SET millrace.isa = 'portable';
SHOW millrace.isa;
SET millrace.isa = 'mmx';
RESET millrace.isa;
SHOW millrace.isa;
SET millrace.nn_max_nodes = 0;
SET millrace.max_model_memory = '2GB';
SHOW millrace.max_model_memory;
RESET millrace.max_model_memory;

CREATE ROLE nn_settings_user;
SET ROLE nn_settings_user;
SET millrace.isa = 'portable';
SET millrace.max_model_memory = '1TB';
SET millrace.nn_max_model_bytes = '1GB';
SET millrace.nn_max_nodes = 1000000;
RESET ROLE;
DROP ROLE nn_settings_user;
