// model.tflite, labels.txt and preprocessing.json in the app's bundle -> what the model wants to see

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
        rule = try JSONDecoder().decode(Rule.self, from: Data(contentsOf: url("preprocessing.json")))
    }

    /// The part of an upright image that the model sees, in fractions of the image's sides.
    func part(of image: CGImage) -> CGRect {
        let crop = rule.crop
        var (wide, high) = (crop, crop)
        if rule.resize == "crop" {
            let wanted = Double(rule.image_size[1]) / Double(rule.image_size[0])
            let given = Double(image.width) / Double(image.height)
            wide = crop * min(1.0, wanted / given)
            high = crop * min(1.0, given / wanted)
        }
        return CGRect(x: (1 - wide) / 2, y: (1 - high) / 2, width: wide, height: high)
    }

    /// An upright image -> the model's input: red, green, blue of each pixel, row by row.
    func pixels(of image: CGImage) -> Data? {
        let (height, width) = (rule.image_size[0], rule.image_size[1])
        let whole = CGAffineTransform(scaleX: CGFloat(image.width), y: CGFloat(image.height))
        guard let cut = image.cropping(to: part(of: image).applying(whole)) else { return nil }
        var colours = [UInt8](repeating: 0, count: 4 * width * height)
        let drawn = colours.withUnsafeMutableBytes { buffer -> Bool in
            guard let context = CGContext(
                data: buffer.baseAddress, width: width, height: height,
                bitsPerComponent: 8, bytesPerRow: 4 * width, space: CGColorSpaceCreateDeviceRGB(),
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
            ) else { return false }
            context.interpolationQuality = .high
            context.draw(cut, in: CGRect(x: 0, y: 0, width: width, height: height))
            return true
        }
        return drawn ? Data(colours.indices.filter { $0 % 4 < 3 }.map { colours[$0] }) : nil
    }
}
