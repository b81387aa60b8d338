// blas: a library that is loaded before OpenBLAS (LD_PRELOAD) and changes it.
//   BLAS_KERNEL   the kernel that OpenBLAS says it has picked
//   BLAS_WRONG    "last": the last element of each product is wrong
#include <cblas.h>
#include <dlfcn.h>
#include <stdlib.h>

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

char *openblas_get_corename(void)
{
    REAL(openblas_get_corename);
    char *told = getenv("BLAS_KERNEL");
    return told ? told : real ? real() : NULL;
}

void cblas_sgemm(OPENBLAS_CONST enum CBLAS_ORDER order, OPENBLAS_CONST enum CBLAS_TRANSPOSE ta,
                 OPENBLAS_CONST enum CBLAS_TRANSPOSE tb, OPENBLAS_CONST blasint m, OPENBLAS_CONST blasint n,
                 OPENBLAS_CONST blasint k, OPENBLAS_CONST float alpha, OPENBLAS_CONST float *a,
                 OPENBLAS_CONST blasint lda, OPENBLAS_CONST float *b, OPENBLAS_CONST blasint ldb,
                 OPENBLAS_CONST float beta, float *c, OPENBLAS_CONST blasint ldc)
{
    REAL(cblas_sgemm);
    real(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (getenv("BLAS_WRONG")) c[(m - 1) * ldc + n - 1] += 1;
}
