#include "Activations.h"
#include <math.h>
#define D(T,s) void swk_activation_##s(int kind, T p, int order, size_t n, const T *a, T *d0, T *d1, T *d2, T *d3, T *d4){ \
 for(size_t i=0;i<n;i++){ T x=a[i],v[5]={0}; if(kind==swk_tanh){T y=tanh(x);v[0]=y;v[1]=1-y*y;v[2]=-2*y*v[1];v[3]=v[1]*(6*y*y-2);v[4]=v[1]*y*(16-24*y*y);} \
  else if(kind==swk_leaky_relu){v[0]=x>0?x:p*x;v[1]=x>0?1:p;} else {v[0]=x;v[1]=1;} \
  if(d0)d0[i]=v[0]; if(order>0)d1[i]=v[1]; if(order>1)d2[i]=v[2]; if(order>2)d3[i]=v[3]; if(order>3)d4[i]=v[4];}} \
 void swk_loss_##s(int kind, T p, int order, size_t n, const T *z, const T *y, T *d0, T *d1, T *d2, T *d3, T *d4){ \
 for(size_t i=0;i<n;i++){T r=z[i]-y[i]; if(d0)d0[i]=r*r/2; if(order>0)d1[i]=r; if(order>1)d2[i]=1; if(order>2)d3[i]=0; if(order>3)d4[i]=0;}}
D(float,f32) D(double,f64)
