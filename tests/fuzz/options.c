// A config file; what loads is printed and read again, and its model_init is tried.
#include "fuzz.h"

#include "../../data/run/options.h"
#include "../../model/checkpoint.h"

void fuzz_options(const char *data, size_t size);
void fuzz_options(const char *data, size_t size)
{
    Options o, again, copy;
    Config c;
    Err e;
    options_init(&o);
    if (options_load(&o, fuzz_file("input", data, size), &e)) {
        if (o.model_init) config_from_json(&c, o.model_init, "model_init", &e);
        cJSON *json = options_json(&o);
        char *text = cJSON_Print(json);
        options_init(&again);
        if (!options_load(&again, fuzz_file("config.json", text, strlen(text)), &e)) abort();
        options_copy(&copy, &again);
        options_free(&copy);
        options_free(&again);
        cJSON_free(text);
        cJSON_Delete(json);
    }
    options_free(&o);
    char *argument = mem_strndup(data, size);
    options_init(&o);
    options_set(&o, argument, FOR_CONFIG | FOR_GENERATE, &e);
    options_free(&o);
    free(argument);
}

HARNESS(fuzz_options)
