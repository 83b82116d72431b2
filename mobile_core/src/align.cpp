#include "align.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace mfs {

Affine Affine::inverse() const {
  double determinant = m[0] * m[4] - m[1] * m[3];
  double d = 1 / determinant;
  Affine out{{m[4] * d, -m[1] * d, (m[1] * m[5] - m[4] * m[2]) * d, -m[3] * d, m[0] * d, (m[3] * m[2] - m[0] * m[5]) * d}};
  for (double value : out.m) {
    if (!std::isfinite(value)) throw bad_argument("an affine map that cannot be inverted");
  }
  return out;
}

Affine alignment(const Landmarks& landmarks, const AlignmentTemplate& at, int size) {
  double x[5], y[5], u[5], v[5], mean[4] = {};
  for (int i = 0; i < 5; i++) {
    x[i] = landmarks[2 * i];
    y[i] = landmarks[2 * i + 1];
    u[i] = at.points[2 * i] * (size / at.base);
    v[i] = at.points[2 * i + 1] * (size / at.base);
    if (!(std::abs(x[i]) < 1e6 && std::abs(y[i]) < 1e6)) throw bad_argument("landmarks are not finite numbers of pixels");
    mean[0] += x[i] / 5;
    mean[1] += y[i] / 5;
    mean[2] += u[i] / 5;
    mean[3] += v[i] / 5;
  }
  // Least squares around the means, where the normal equations are well conditioned.
  double xx = 0, xy = 0, yy = 0, xu = 0, xv = 0, yu = 0, yv = 0;
  for (int i = 0; i < 5; i++) {
    double dx = x[i] - mean[0], dy = y[i] - mean[1], du = u[i] - mean[2], dv = v[i] - mean[3];
    xx += dx * dx;
    xy += dx * dy;
    yy += dy * dy;
    xu += dx * du;
    xv += dx * dv;
    yu += dy * du;
    yv += dy * dv;
  }
  double spread = xx + yy, determinant = xx * yy - xy * xy;
  // The ratio is that of the two axes of the points' scatter, squared: 1e-14 is a line to one part in ten million.
  if (!(determinant > 1e-14 * spread * spread))
    throw bad_argument("the five landmarks lie on one line, so the face cannot be aligned");
  double a, b, c, d;
  if (at.solver == AlignmentTemplate::Solver::similarity) {
    a = d = (xu + yv) / spread;
    c = (xv - yu) / spread;
    b = -c;
  } else {
    a = (xu * yy - yu * xy) / determinant;
    b = (yu * xx - xu * xy) / determinant;
    c = (xv * yy - yv * xy) / determinant;
    d = (yv * xx - xv * xy) / determinant;
  }
  Affine out{{a, b, mean[2] - a * mean[0] - b * mean[1], c, d, mean[3] - c * mean[0] - d * mean[1]}};
  for (double& value : out.m) value = double(float(value));
  return out;
}

void sample(const Frame& frame, const Affine& to_frame, int width, int height, Border border, uint8_t* rgb) {
  const float black[3] = {0, 0, 0};
  for (int y = 0; y < height; y++) {
    for (int x = 0; x < width; x++, rgb += 3) {
      double fx, fy;
      to_frame.apply(x, y, fx, fy);
      if (border == Border::nearest) {
        fx = std::clamp(fx, 0.0, double(frame.width - 1));
        fy = std::clamp(fy, 0.0, double(frame.height - 1));
      } else if (!(fx > -1 && fy > -1 && fx < frame.width && fy < frame.height)) {
        std::copy(black, black + 3, rgb);
        continue;
      }
      int x0 = int(std::floor(fx)), y0 = int(std::floor(fy));
      float right = float(fx - x0), down = float(fy - y0);
      float corner[4][3];
      for (int i = 0; i < 4; i++) {
        int px = x0 + i % 2, py = y0 + i / 2;
        bool is_outside = px < 0 || py < 0 || px >= frame.width || py >= frame.height;
        // With Border::nearest only a neighbour of weight 0 can be outside.
        if (is_outside) {
          std::copy(black, black + 3, corner[i]);
        } else {
          frame.rgb(px, py, corner[i]);
        }
      }
      for (int c = 0; c < 3; c++) {
        float top = corner[0][c] + (corner[1][c] - corner[0][c]) * right;
        float bottom = corner[2][c] + (corner[3][c] - corner[2][c]) * right;
        rgb[c] = uint8_t(std::lrint(top + (bottom - top) * down));
      }
    }
  }
}

}  // namespace mfs
