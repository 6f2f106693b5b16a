/* A stand-in for libnvidia-ml.so.1 of a driver that has only a few functions: what
   the program calls beyond them would end its process. */
#include <string.h>

typedef void *nvmlDevice_t;

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 15 ? "GPU is lost" : "stand-in"; }
int nvmlSystemGetDriverVersion(char *out, unsigned int n) { strncpy(out, "450.00", n); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, nvmlDevice_t *d) {
  static int one;
  if (i == 1) return 15; /* GPU is lost */
  *d = &one;
  return 0;
}
int nvmlDeviceGetUUID(nvmlDevice_t d, char *out, unsigned int n) { strncpy(out, "GPU-0000aaaa-0000-4000-8000-000000000001", n); return 0; }
int nvmlDeviceGetName(nvmlDevice_t d, char *out, unsigned int n) { strncpy(out, "Stand-in", n); return 0; }
int nvmlDeviceGetPowerUsage(nvmlDevice_t d, unsigned int *mw) { return 3; /* not supported */ }
