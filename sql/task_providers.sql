-- Options of providers: what belongs to which api; secrets.
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h', region 'x');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'https://h', model 'x');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'https://h/v1');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h/a/../b');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h/v1?key=1');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://me:secret@h/v1');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h//v1');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h', cost_per_1k '-1');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h', cost_per_1k '1e3');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h', cost_per_minute '5');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h', cost_per_1k '0.002', cost_per_minute '0');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h', requests_per_minute '0');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h', stream 'perhaps');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h', function 'a.b');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', url 'https://h');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'answer');
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'a.b', cost_per_1k '1');
CREATE SERVER regress_local FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'regress_task.answer', timeout_ms '1000');
CREATE SERVER regress_ollama FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'ollama', url 'http://h:11434', model 'llama3.2', embedding_model 'all-minilm', stream 'true');
CREATE SERVER regress_openai FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h/openai/v1', model 'm', requests_per_minute '60',
	tokens_per_minute '100000', cost_per_1k '0.002', cost_per_minute '1.5', tenant_cost_per_minute '.5');
CREATE SERVER regress_openai FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h/openai/v1', model 'm', requests_per_minute '60',
	tokens_per_minute '100000', cost_per_1k '0.002', cost_per_minute '1.5', tenant_cost_per_minute '0.5', tenant_requests_per_minute '6');
ALTER SERVER regress_openai OPTIONS (DROP cost_per_1k);

-- Secrets are for mappings; files for superusers to name.
CREATE SERVER regress_p FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'https://h', api_key 'x');
CREATE USER MAPPING FOR PUBLIC SERVER regress_openai OPTIONS (api_key E'x\r\nHost: y');
CREATE USER MAPPING FOR PUBLIC SERVER regress_openai OPTIONS (secret_file '../passwd');
CREATE USER MAPPING FOR PUBLIC SERVER regress_openai OPTIONS (secret_file 'a/b');
CREATE USER MAPPING FOR PUBLIC SERVER regress_openai OPTIONS (secret_file '.hidden');
CREATE USER MAPPING FOR PUBLIC SERVER regress_openai OPTIONS (secret_file 'key', api_key 'x');
CREATE USER MAPPING FOR PUBLIC SERVER regress_openai OPTIONS (access_key 'me');
CREATE ROLE regress_provider IN ROLE millrace_admin;
GRANT USAGE ON FOREIGN SERVER regress_openai TO regress_provider;
SET ROLE regress_provider;
CREATE USER MAPPING FOR regress_provider SERVER regress_openai OPTIONS (secret_file 'key');
CREATE USER MAPPING FOR regress_provider SERVER regress_openai OPTIONS (api_key 'x');
SELECT count(*) AS seen FROM pg_settings WHERE name = 'millrace.secret_directory';
SET millrace.secret_directory = '/etc';
RESET ROLE;
DROP USER MAPPING FOR regress_provider SERVER regress_openai;
CREATE USER MAPPING FOR regress_provider SERVER regress_openai OPTIONS (secret_file 'regress.key-1_2');
SELECT srvname, umoptions FROM pg_user_mappings WHERE srvname LIKE 'regress\_%';

DROP SERVER regress_local, regress_ollama, regress_openai CASCADE;
DROP ROLE regress_provider;
