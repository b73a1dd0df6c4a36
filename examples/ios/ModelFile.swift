// model.tflite, labels.txt, preprocessing.json in the bundle -> an image's region and pixels for it

import CoreGraphics
import Foundation

struct ModelFile {
    private struct Rule: Decodable {
        let image_size: [Int]  // height, width
        let resize: String
        let crop: Double
    }

    let path: String
    let labels: [String]
    private let rule: Rule

    init(bundle: Bundle = .main) throws {
        func url(_ name: String) throws -> URL {
            guard let url = bundle.url(forResource: name, withExtension: nil) else {
                throw CocoaError(.fileNoSuchFile, userInfo: [NSFilePathErrorKey: name])
            }
            return url
        }
        path = try url("model.tflite").path
        labels = try String(contentsOf: url("labels.txt"), encoding: .utf8)
            .split(separator: "\n").map(String.init)
        let json = try Data(contentsOf: url("preprocessing.json"))
        rule = try JSONDecoder().decode(Rule.self, from: json)
    }

    /// An upright image, with black borders to the model's aspect ratio if the rule wants them.
    func padded(_ image: CGImage) -> CGImage? {
        guard rule.resize == "pad" else { return image }
        let modelRatio = Double(rule.image_size[1]) / Double(rule.image_size[0])
        let width = max(image.width, Int((Double(image.height) * modelRatio).rounded()))
        let height = max(image.height, Int((Double(image.width) / modelRatio).rounded()))
        guard let context = CGContext(  // a new context is black
            data: nil, width: width, height: height,
            bitsPerComponent: 8, bytesPerRow: 0, space: CGColorSpaceCreateDeviceRGB(),
            bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
        ) else { return nil }
        context.draw(image, in: CGRect(
            x: (width - image.width) / 2, y: (height - image.height) / 2,
            width: image.width, height: image.height))
        return context.makeImage()
    }

    /// The region of a padded image that the model sees, in fractions of the image's sides.
    func region(of image: CGImage) -> CGRect {
        let crop = rule.crop
        var (horizontal, vertical) = (crop, crop)
        if rule.resize == "crop" {
            let modelRatio = Double(rule.image_size[1]) / Double(rule.image_size[0])
            let imageRatio = Double(image.width) / Double(image.height)
            horizontal = crop * min(1.0, modelRatio / imageRatio)
            vertical = crop * min(1.0, imageRatio / modelRatio)
        }
        return CGRect(
            x: (1 - horizontal) / 2, y: (1 - vertical) / 2, width: horizontal, height: vertical)
    }

    /// The model's input for an upright image: red, green, blue of each pixel, 0 to 255, as Float.
    func pixels(of image: CGImage) -> Data? {
        let (height, width) = (rule.image_size[0], rule.image_size[1])
        guard let padded = padded(image) else { return nil }
        let toPixels = CGAffineTransform(scaleX: CGFloat(padded.width), y: CGFloat(padded.height))
        guard let cropped = padded.cropping(to: region(of: padded).applying(toPixels)) else {
            return nil
        }
        var colours = [UInt8](repeating: 0, count: 4 * width * height)
        let drawn = colours.withUnsafeMutableBytes { buffer -> Bool in
            guard let context = CGContext(
                data: buffer.baseAddress, width: width, height: height,
                bitsPerComponent: 8, bytesPerRow: 4 * width, space: CGColorSpaceCreateDeviceRGB(),
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
            ) else { return false }
            context.interpolationQuality = .high
            context.draw(cropped, in: CGRect(x: 0, y: 0, width: width, height: height))
            return true
        }
        guard drawn else { return nil }
        let pixels = colours.indices.filter { $0 % 4 < 3 }.map { Float(colours[$0]) }
        return pixels.withUnsafeBufferPointer { Data(buffer: $0) }
    }
}
