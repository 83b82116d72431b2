import CoreGraphics

/// Vision's outlines of a face, turned into the five points that mobile_core aligns by.  Pure geometry, no Vision.
enum FivePoints {
    /// From Vision's points (origin at the lower left corner, edges of pixels at whole numbers) to pixels of the frame as it lies
    /// in memory (origin at the upper left, centres of pixels at whole numbers).  The frame must be upright.
    static func toFrame(_ point: CGPoint, height: CGFloat) -> CGPoint {
        CGPoint(x: point.x - 0.5, y: height - point.y - 0.5)
    }

    /// x and y of image-left eye, image-right eye, nose tip, image-left and image-right mouth corner; nil where an outline is
    /// empty or the eyes coincide.  All in pixels of the frame.  Which eye is which does not matter, nor do the points' orders.
    static func from(eyes: ([CGPoint], [CGPoint]), noseCrest: [CGPoint], lips: [CGPoint]) -> [Double]? {
        guard let one = centre(eyes.0), let other = centre(eyes.1), let mouth = centre(lips) else { return nil }
        let (left, right) = one.x <= other.x ? (one, other) : (other, one)
        let along = CGVector(dx: right.x - left.x, dy: right.y - left.y)
        let length = (along.dx * along.dx + along.dy * along.dy).squareRoot()
        guard length > 1, !noseCrest.isEmpty else { return nil }
        let across = CGVector(dx: -along.dy, dy: along.dx)
        let isDown = dot(across, CGVector(dx: mouth.x - left.x, dy: mouth.y - left.y)) >= 0
        let down = isDown ? across : CGVector(dx: along.dy, dy: -along.dx)  // from the eyes to the mouth
        let nose = farthest(noseCrest, towards: down)
        let leftCorner = farthest(lips, towards: CGVector(dx: -along.dx, dy: -along.dy))
        let rightCorner = farthest(lips, towards: along)
        return [left, right, nose, leftCorner, rightCorner].flatMap { [Double($0.x), Double($0.y)] }
    }

    private static func centre(_ points: [CGPoint]) -> CGPoint? {
        guard !points.isEmpty else { return nil }
        let count = CGFloat(points.count)
        let x = points.reduce(CGFloat(0)) { $0 + $1.x }
        let y = points.reduce(CGFloat(0)) { $0 + $1.y }
        return CGPoint(x: x / count, y: y / count)
    }

    /// `points` must not be empty.
    private static func farthest(_ points: [CGPoint], towards direction: CGVector) -> CGPoint {
        var best = points[0]
        for point in points.dropFirst() where dot(direction, CGVector(dx: point.x - best.x, dy: point.y - best.y)) > 0 {
            best = point
        }
        return best
    }

    private static func dot(_ a: CGVector, _ b: CGVector) -> CGFloat {
        a.dx * b.dx + a.dy * b.dy
    }
}
